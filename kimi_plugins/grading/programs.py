"""Rewards of programs: r = 1 iff every test case passes (k1.5 §2.3.5). Outputs are compared outside the sandbox.

A problem is a JSON object with these keys:

    cases      [{"input": text, "output": text}, …], or with `function` [{"args": […], "kwargs": {…}, "output": …}, …]
    function   name of the function that is called, or Class.method; absent: the program reads and writes text
    language   python (default), c or cpp; functions are Python's
    compare    for text: tokens between white space (default), lines without trailing white space, or exact
    tolerance  absolute and relative, of numbers; default 0. Text is then compared by tokens
    limits     of each run, by the names of sandbox.pool.Limits
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path

from kimi_plugins.sandbox import function_server
from kimi_plugins.sandbox.pool import Limits, Result, Sandbox, SandboxError, SandboxUnavailable, python


@dataclass(frozen=True)
class Language:
    """How programs of a language are run: their file's name, shell commands, the tags of fenced blocks."""

    source: str
    run: str
    compile: str | None = None  # makes the file `main`
    tags: tuple[str, ...] = ()


LANGUAGES = {
    "python": Language("main.py", "exec {python} -I -S main.py", tags=("python", "python3", "py")),
    "c": Language("main.c", "exec ./main", "/usr/bin/gcc -O2 -std=c17 -o main main.c -lm", ("c",)),
    "cpp": Language(
        "main.cpp", "exec ./main", "/usr/bin/g++ -O2 -std=c++20 -o main main.cpp", tags=("cpp", "c++", "cc")
    ),
}
COMPILE_LIMITS = Limits(wall_seconds=30.0, cpu_seconds=20.0, memory_mb=1024, output_kb=16 << 10)


@dataclass(frozen=True)
class Problem:
    """The tests of a problem; the keys are those of the JSON object above."""

    cases: list[dict]
    function: str | None = None
    language: str = "python"
    compare: str = "tokens"
    tolerance: float = 0.0
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def parse(cls, data: dict) -> "Problem":
        """From the JSON object; keys this module does not know (id, statement, …) are passed over.

        Raises:
            ValueError: names the key that is wrong and what it must be.
        """
        if not isinstance(data, dict):
            raise ValueError(f"a problem is a JSON object with cases, not {data!r:.60}")
        known = {name: data[name] for name in (entry.name for entry in fields(cls)) if data.get(name) is not None}
        if not isinstance(known.get("cases"), list) or not known["cases"]:
            raise ValueError("cases: it must be a list of at least one test case")
        for name, choices in {"language": LANGUAGES, "compare": ("tokens", "lines", "exact")}.items():
            if name in known and known[name] not in choices:
                raise ValueError(f"{name} is {known[name]!r}; choose {', '.join(choices)}")
        function = known.get("function")
        if function is not None and not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)?", str(function)):
            raise ValueError(f"function is {function!r}; write a name, or Class.method")
        if function is not None and known.get("language", "python") != "python":
            raise ValueError(f"language is {known['language']!r}; functions are called in python only")
        for number, case in enumerate(known["cases"], 1):
            _check_case(number, case, function)
        tolerance = known.get("tolerance", 0.0)
        if not isinstance(tolerance, int | float) or not 0 <= tolerance < math.inf:
            raise ValueError(f"tolerance is {tolerance!r}; it must be a number ≥ 0")
        try:
            known["limits"] = Limits(**known.get("limits", {}))
        except TypeError as error:
            names = ", ".join(entry.name for entry in fields(Limits))
            raise ValueError(f"limits: {error}; the names are {names}") from error
        return cls(**known)


def _check_case(number: int, case, function: str | None) -> None:
    if not isinstance(case, dict) or "output" not in case:
        raise ValueError(f"case {number}: it must be an object with output")
    if function is None:
        if not isinstance(case.get("input"), str) or not isinstance(case["output"], str):
            raise ValueError(f"case {number}: input and output must be text; or name the function")
        return
    if not isinstance(case.get("args", []), list) or not isinstance(case.get("kwargs", {}), dict):
        raise ValueError(f"case {number}: args must be a list, kwargs an object")
    try:
        function_server.decode([case.get("args", []), case.get("kwargs", {}), case["output"]])
    except (TypeError, ValueError) as error:
        raise ValueError(f"case {number}: {error}") from error


@dataclass(frozen=True)
class Verdict:
    """reward: 1.0 iff all cases passed. failed: the grader could not tell, and reward means nothing.

    reason: in words. passed: cases passed before the first that was not.
    """

    reward: float
    reason: str
    passed: int = 0
    cases: int = 0
    failed: bool = False


_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^`\n]*$")


def extract_program(response: str, language: str = "python", *, thinking: bool = False) -> tuple[str | None, str]:
    """The program a response ends with, or None and why there is none.

    What counts is what follows the last </think>; a response that opens <think>, or whose prompt did (`thinking`),
    and never closes it has none. There, the last closed fenced block tagged with the language counts, else the last
    closed block without a tag. A fence may be followed by a special token such as <|im_end|> at the end.
    """
    before, closed, answer = response.rpartition("</think>")
    if not closed and (thinking or "<think>" in answer):
        return None, "no program: the thinking does not end"
    tagged = untagged = None
    fence, tag, lines = "", "", []
    for line in answer.splitlines():
        if fence:
            if re.match(rf" {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}\s*(<.*)?$", line):
                block = "\n".join(lines) + "\n"
                if tag in LANGUAGES[language].tags:
                    tagged = block
                elif not tag:
                    untagged = block
                fence = ""
            else:
                lines.append(line)
        elif opening := _FENCE.match(line):
            fence, tag, lines = opening[1], opening[2].lower(), []
    program = tagged if tagged is not None else untagged
    if program is not None:
        return program, ""
    if fence:
        return None, "no program: the fenced block is not closed"
    return None, f"no program: no fenced block of {language}"


def judge(response: str, problem: Problem, sandbox: Sandbox, *, thinking: bool = False) -> Verdict:
    """The verdict on a response; blocks while all of the sandbox's workers are busy.

    thinking: the prompt ends with <think>.
    """
    program, reason = extract_program(response, problem.language, thinking=thinking)
    if program is None:
        return Verdict(0.0, reason, cases=len(problem.cases))
    return judge_program(program, problem, sandbox)


def judge_program(program: str, problem: Problem, sandbox: Sandbox) -> Verdict:
    """The verdict on a program. A failure of the sandbox gives failed and why, never a plain 0."""
    check = _run_function if problem.function else _run_cases
    passed = 0
    try:
        for fault in check(program.encode(errors="replace"), problem, sandbox):
            if fault is not None:
                return Verdict(0.0, fault, passed, len(problem.cases))
            passed += 1
    except (SandboxError, SandboxUnavailable) as error:
        return Verdict(0.0, f"the sandbox failed: {error}", passed, len(problem.cases), failed=True)
    return Verdict(1.0, "passed", passed, len(problem.cases))


def judge_all(
    responses: Iterable[str], problems: Iterable[Problem], sandbox: Sandbox, *, thinking: bool = False
) -> Iterator[Verdict]:
    """The verdicts in order, as many responses at a time as the sandbox has workers."""
    with ThreadPoolExecutor(sandbox.workers) as threads:
        yield from threads.map(
            lambda pair: judge(*pair, sandbox, thinking=thinking), zip(responses, problems, strict=True)
        )


def run_text(
    program: bytes, inputs: Iterable[str], language: str, limits: Limits, sandbox: Sandbox
) -> Iterator[Result]:
    """Run a program on each input in a sandbox of its own; it is compiled once.

    Yields one result, of the compiler, if that fails.
    """
    chosen = LANGUAGES[language]
    files = {chosen.source: program}
    if chosen.compile:
        command = f"{chosen.compile} && cat main"
        compiled = sandbox.run(["/bin/sh", "-c", command], files=files, limits=COMPILE_LIMITS)
        if not compiled.succeeded:
            yield compiled
            return
        files = {"main": compiled.stdout}
    # By a shell, for which a program that cannot be started is one that failed.
    argv = ["/bin/sh", "-c", chosen.run.format(python=python())]
    for text in inputs:
        yield sandbox.run(argv, stdin=text.encode(), files=files, limits=limits)


def _run_cases(program: bytes, problem: Problem, sandbox: Sandbox) -> Iterator[str | None]:
    """For each case in turn None or what is wrong with it."""
    inputs = [case["input"] for case in problem.cases]
    results = run_text(program, inputs, problem.language, problem.limits, sandbox)
    for number, (case, result) in enumerate(zip(problem.cases, results, strict=False), 1):
        if (fault := _fault(result)) is not None:
            yield f"case {number}: {fault}"
        elif not same_text(result.stdout, case["output"].encode(), problem.compare, problem.tolerance):
            yield f"case {number}: wrong output"
        else:
            yield None


def _run_function(program: bytes, problem: Problem, sandbox: Sandbox) -> Iterator[str | None]:
    """For each case in turn None or what is wrong with it. All calls are made in one sandbox, in order."""
    calls = [[case.get("args", []), case.get("kwargs", {})] for case in problem.cases]
    result = run_calls(program, problem.function, calls, problem.limits, sandbox)
    lines = result.stdout.splitlines()
    for number, case in enumerate(problem.cases, 1):
        if number > len(lines):
            yield f"case {number}: {_fault(result) or 'no result'}"
        elif not same_json(lines[number - 1], case["output"], problem.tolerance):
            raised = _ERROR.fullmatch(lines[number - 1].decode(errors="replace"))
            yield f"case {number}: " + (f"exception ({raised[1]})" if raised else "wrong result")
        else:
            yield None


_ERROR = re.compile(r'\{"\$error": "(.*)"\}')


def run_calls(program: bytes, function: str, calls: list, limits: Limits, sandbox: Sandbox) -> Result:
    """Call a function of a program with each [args, kwargs], encoded; a line of JSON for each on standard output."""
    return sandbox.run(
        [python(), "-I", "-S", "server.py", "solution.py", function],
        stdin="".join(json.dumps(call) + "\n" for call in calls).encode(),
        files={"server.py": _server(), "solution.py": program},
        limits=limits,
    )


@lru_cache
def _server() -> bytes:
    return Path(function_server.__file__).read_bytes()


def _fault(result: Result) -> str | None:
    """Why a program did not end as it should; None if it did."""
    if result.stopped:
        return f"{result.stopped} limit"
    if result.exit_code:
        last = result.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return f"exit code {result.exit_code}" + "".join(f" ({line[:200]})" for line in last)
    return None


def same_text(found: bytes, expected: bytes, compare: str, tolerance: float) -> bool:
    """Whether two outputs are the same under a way to compare (see the module's head)."""
    if compare == "exact" and not tolerance:
        return found == expected
    if compare == "lines" and not tolerance:
        return _lines(found) == _lines(expected)
    left, right = found.split(), expected.split()
    if not tolerance:
        return left == right
    return len(left) == len(right) and all(
        a == b or _close(_number(a), _number(b), tolerance) for a, b in zip(left, right, strict=True)
    )


def _lines(text: bytes) -> list[bytes]:
    return [line.rstrip() for line in text.rstrip().split(b"\n")]


def _number(token: bytes) -> float | None:
    try:
        return float(token)
    except ValueError:
        return None


def _close(left: float | None, right: float | None, tolerance: float) -> bool:
    return None not in (left, right) and math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)


def same_json(line: bytes, expected, tolerance: float) -> bool:
    """Whether a line the program wrote is the expected value; what is no JSON, or nested too deeply, is not."""
    try:
        return same_value(function_server.decode(json.loads(line)), function_server.decode(expected), tolerance)
    except (ValueError, TypeError, RecursionError, OverflowError):
        return False


def same_value(found, expected, tolerance: float = 0.0) -> bool:
    """Python's == of plain values, but that numbers may differ by the tolerance and nan is nan."""
    numbers = int | float
    if isinstance(found, numbers) and isinstance(expected, numbers):
        if found == expected or (found != found and expected != expected):
            return True
        return tolerance > 0 and _close(float(found), float(expected), tolerance)
    if isinstance(expected, list | tuple):
        return (
            type(found) is type(expected)
            and len(found) == len(expected)
            and all(same_value(a, b, tolerance) for a, b in zip(found, expected, strict=True))
        )
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(same_value(found[key], expected[key], tolerance) for key in expected)
        )
    return type(found) is type(expected) and found == expected


def read_label(label: str) -> Problem:
    """The problem a label stands for: its JSON object, or FILE#ID for a line of a JSONL file with that id.

    Raises:
        ValueError: the label is neither, or the problem makes no sense.
        OSError: the file cannot be read.
    """
    if label.lstrip().startswith("{"):
        try:
            return Problem.parse(json.loads(label))
        except json.JSONDecodeError as error:
            raise ValueError(f"the label is no JSON ({error}): {label!r:.60}") from error
    path, separator, name = label.rpartition("#")
    if not separator:
        raise ValueError(f"the label must be a problem as a JSON object, or FILE#ID, not {label!r:.60}")
    offsets = _offsets(path)
    if name not in offsets:
        raise ValueError(f"{path} has no problem with the id {name!r}")
    with open(path, "rb") as file:
        file.seek(offsets[name])
        return Problem.parse(json.loads(file.readline()))


@lru_cache(maxsize=8)
def _offsets(path: str) -> dict[str, int]:
    """Where the line of each id begins."""
    offsets = {}
    with open(path, "rb") as file:
        position = 0
        for number, line in enumerate(file, 1):
            try:
                name = str(json.loads(line)["id"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: no JSON object with id") from error
            if name in offsets:
                raise ValueError(f"{path}, line {number}: the id {name!r} is there twice")
            offsets[name] = position
            position += len(line)
    return offsets
