"""Rewards of programs: r = 1 iff every test case passes (k1.5 §2.3.5). Programs never see expected outputs.

A problem is a JSON object with these keys:

    cases        [{"input": text, "output": text}, …], or with `function` [{"args": […], "kwargs": {…}, "output": …},
                 …]; `outputs` in place of `output` lists several accepted ones; `tolerance` goes before the problem's
    function     name of the function that is called, or Class.method; absent: the program reads and writes text
    language     a key of languages.LANGUAGES, python by default; functions are Python's
    compare      of text: tokens between white space (default), lines without trailing white space, or exact;
                 of results: ordered (default), unordered (the outermost list), or unordered_nested (every list)
    tolerance    of floating-point numbers in the output: a number, absolute or relative, or {"absolute": number,
                 "relative": number}; see comparison.close for the default
    ignore_case  of text; default false
    in_place     number of the argument that is compared in place of what the function returns
    preamble     Python text whose names the program finds beside the builtins; by default PREAMBLE for functions and
                 nothing for text
    files        [input, output]: names under which the program may also open standard input and output;
                 input.txt and output.txt by default
    limits       of each case, by the names of sandbox.pool.Limits

METADATA lists further keys, which are not read. Any other key is an error.
"""

import hashlib
import json
import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

from kimi_plugins.grading import comparison
from kimi_plugins.grading.extraction import after_thinking
from kimi_plugins.grading.languages import COMPILE_LIMITS, LANGUAGES, fenced_blocks
from kimi_plugins.grading.verdict import Kind, Verdict
from kimi_plugins.sandbox import interpreter
from kimi_plugins.sandbox.pool import Limits, Result, Sandbox, SandboxError, SandboxUnavailable

METADATA = ("id", "statement", "title", "source", "url", "difficulty", "tags", "submissions", "metadata")
PREAMBLE = Path(interpreter.__file__).with_name("preamble.py").read_text(encoding="utf-8")
FILES = ("input.txt", "output.txt")
COMPARED_HERE = 64 << 10  # bytes of both outputs up to which they are compared in this process
COMPARE_LIMITS = Limits(wall_seconds=60.0, cpu_seconds=20.0, memory_mb=2048)
CACHED_BYTES = 256 << 20  # of compiled programs


@dataclass(frozen=True)
class Problem:
    """The tests of a problem; the fields are the keys of the JSON object above."""

    cases: list[dict]
    function: str | None = None
    language: str = "python"
    compare: str = ""
    tolerance: comparison.Tolerance = None
    ignore_case: bool = False
    in_place: int | None = None
    preamble: str | None = None
    files: tuple[str, str] = FILES
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def parse(cls, data: dict) -> "Problem":
        """The problem of a JSON object.

        Raises:
            ValueError: names the key that is wrong and what it must be.
        """
        if not isinstance(data, dict):
            raise ValueError(f"a problem is a JSON object with cases, not {data!r:.60}")
        names = [entry.name for entry in fields(cls)]
        for key in data:
            if key not in names and key not in METADATA:
                raise ValueError(f"unknown key {key!r}; the keys are {', '.join(names)}; put others under metadata")
        known = {name: data[name] for name in names if data.get(name) is not None}
        if not isinstance(known.get("cases"), list) or not known["cases"]:
            raise ValueError("cases: it must be a list of at least one test case")
        function = known.get("function")
        if function is not None and not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)?", str(function)):
            raise ValueError(f"function is {function!r}; write a name, or Class.method")
        kinds = comparison.TEXT if function is None else comparison.VALUES
        known["compare"] = known.get("compare") or kinds[0]
        for name, choices in {"language": LANGUAGES, "compare": kinds}.items():
            if name in known and known[name] not in choices:
                raise ValueError(f"{name} is {known[name]!r}; choose {', '.join(choices)}")
        _check_settings(known)
        for number, case in enumerate(known["cases"], 1):
            try:
                _check_case(case, known)
            except ValueError as error:
                raise ValueError(f"case {number}: {error}") from error
        known["limits"] = _limits(known.get("limits", {}))
        known["files"] = tuple(known.get("files", FILES))
        return cls(**known)

    def accepted(self, case: dict) -> list:
        """The outputs a case accepts."""
        if "outputs" in case:
            return case["outputs"]
        output = case["output"]
        return output if self.function is None and isinstance(output, list) else [output]


def _check_settings(known: dict) -> None:
    language, function = known.get("language", "python"), known.get("function")
    if function is not None and language != "python":
        raise ValueError(f"language is {language!r}; functions are called in python only")
    if (package := LANGUAGES[language].missing()) is not None:
        raise ValueError(f"language is {language!r}, whose toolchain is not installed: apt-get install {package}")
    _check_tolerance(known.get("tolerance", 0.0))
    if not isinstance(known.get("ignore_case", False), bool):
        raise ValueError(f"ignore_case is {known['ignore_case']!r}; it must be true or false")
    in_place = known.get("in_place", 0)
    if isinstance(in_place, bool) or not isinstance(in_place, int) or in_place < 0:
        raise ValueError(f"in_place is {in_place!r}; it must be the number of an argument, from 0")
    if "in_place" in known and function is None:
        raise ValueError("in_place: only a function has arguments; name the function")
    preamble = known.get("preamble", "")
    if not isinstance(preamble, str) or (preamble and language != "python"):
        raise ValueError("preamble: it must be Python text, for python only")
    _check_text("preamble", preamble)
    names = known.get("files", FILES)
    if (
        not isinstance(names, list | tuple)
        or len(names) != 2
        or not all(isinstance(name, str) and re.fullmatch(r"\w[\w.-]{0,99}", name, re.ASCII) for name in names)
        or names[0] == names[1]
    ):
        raise ValueError(f"files is {names!r}; it must be two file names, of the input and of the output")


def _check_tolerance(tolerance) -> None:
    numbers = tolerance.values() if isinstance(tolerance, dict) else [tolerance]
    if (isinstance(tolerance, dict) and (not tolerance or tolerance.keys() - {"absolute", "relative"})) or not all(
        isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < math.inf
        for number in numbers
    ):
        raise ValueError(
            f"tolerance is {tolerance!r}; it must be a number ≥ 0, or an object of absolute and relative, each ≥ 0"
        )


def _check_case(case, known: dict) -> None:
    function = known.get("function")
    keys = {"input"} if function is None else {"args", "kwargs"}
    if not isinstance(case, dict) or ("output" in case) == ("outputs" in case):
        raise ValueError("it must be an object with output, or with outputs")
    if function is not None and "input" in case:
        raise ValueError("it has input; a function is called with args (a list) and kwargs (an object)")
    if function is None and {"args", "kwargs"} & case.keys():
        raise ValueError("it has args or kwargs, which functions have; name the function, or give input")
    if unknown := case.keys() - keys - {"output", "outputs", "tolerance"}:
        raise ValueError(f"unknown key {min(unknown)!r}")
    if case.get("tolerance") is not None:
        _check_tolerance(case["tolerance"])
    if "outputs" in case and (not isinstance(case["outputs"], list) or not case["outputs"]):
        raise ValueError("outputs must be a list of at least one accepted output")
    if function is None:
        accepted = case.get("outputs", case.get("output"))
        accepted = accepted if isinstance(accepted, list) else [accepted]
        if not isinstance(case.get("input"), str) or not accepted or not all(isinstance(x, str) for x in accepted):
            raise ValueError("input and output must be text; or name the function")
        for text in (case["input"], *accepted):
            _check_text("input or output", text)
        return
    if not isinstance(case.get("args", []), list) or not isinstance(case.get("kwargs", {}), dict):
        raise ValueError("args must be a list, kwargs an object")
    if known.get("in_place", 0) >= max(1, len(case.get("args", [])) + len(case.get("kwargs", {}))):
        raise ValueError(f"in_place is {known['in_place']}, but the case has fewer arguments")
    try:
        interpreter.decode([case.get("args", []), case.get("kwargs", {}), case.get("outputs", [case.get("output")])])
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _check_text(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: character {error.start + 1} is half of a surrogate pair, not text") from error


def _limits(data) -> Limits:
    names = ", ".join(entry.name for entry in fields(Limits))
    if not isinstance(data, dict):
        raise ValueError(f"limits is {data!r:.60}; it must be an object with some of {names}")
    try:
        return Limits(**data)
    except TypeError as error:
        raise ValueError(f"limits: {error}; the names are {names}") from error


def extract_program(response: str, language: str = "python", *, thinking: bool = False) -> tuple[str | None, str]:
    """The program a response ends with, or None and why there is none.

    Of what follows the thinking, the last closed fenced block tagged with the language counts, else the last closed
    block without a tag. thinking: the prompt opened the thinking.
    """
    answer = after_thinking(response, opened=thinking)
    blocks, unclosed = fenced_blocks(answer)
    tags = re.compile(LANGUAGES[language].tags)
    for wanted in (tags.fullmatch, lambda tag: not tag):
        for tag, content in reversed(blocks):
            if wanted(tag):
                return content, ""
    if not answer.strip() and response.strip():
        return None, "no program: the thinking does not end, or nothing follows it"
    if unclosed:
        return None, "no program: the fenced block is not closed"
    return None, f"no program: no fenced block of {language}"


def judge(response: str, problem: Problem, sandbox: Sandbox, *, thinking: bool = False) -> Verdict:
    """The verdict on a response; blocks while all of the sandbox's workers are busy. thinking: as extract_program."""
    program, reason = extract_program(response, problem.language, thinking=thinking)
    if program is None:
        return Verdict(Kind.NO_PROGRAM, reason)
    return judge_program(program, problem, sandbox)


def judge_program(program: str, problem: Problem, sandbox: Sandbox) -> Verdict:
    """The verdict on a program: right iff all cases pass. Of a failure of the sandbox nothing follows for it."""
    try:
        for number, (case, result) in enumerate(
            zip(problem.cases, run_cases(program, problem.cases, problem, sandbox), strict=True), 1
        ):
            if (fault := fault_of(result, case, problem, sandbox)) is not None:
                return Verdict(Kind.WRONG, f"case {number}: {fault}")
    except NotCompiled as error:
        return Verdict(Kind.WRONG, f"does not compile: {error}")
    except (SandboxError, SandboxUnavailable) as error:
        return Verdict(Kind.FAILED, f"the sandbox failed: {error}")
    return Verdict(Kind.RIGHT, "passed")


def judge_all(responses: Iterable[str], problems: Iterable[Problem], sandbox: Sandbox) -> Iterator[Verdict]:
    """The verdicts in order, as many responses at a time as the sandbox has workers."""
    with ThreadPoolExecutor(sandbox.workers) as threads:
        yield from threads.map(lambda pair: judge(pair[0], pair[1], sandbox), zip(responses, problems, strict=True))


class NotCompiled(Exception):
    """The program does not compile; the message is the compiler's last error."""


def run_cases(program: str, cases: Iterable[dict], problem: Problem, sandbox: Sandbox) -> Iterator[Result]:
    """Run a program on each case, in a sandbox of its own and with all of the limits; it is compiled once.

    The cases need no output. Results of functions are a line of encoded JSON on standard output.

    Raises:
        NotCompiled: nothing was run.
    """
    source = program.encode(errors="replace")
    preamble = problem.preamble if problem.preamble is not None else (PREAMBLE if problem.function else "")
    links = dict(zip(problem.files, ("/dev/stdin", "/dev/stdout"), strict=True))
    files = {} if problem.language == "python" else compiled(source, problem.language, sandbox)
    for case in cases:
        limits, stdin = _room_for(case, problem), case.get("input", "").encode()
        if problem.language == "python":
            yield sandbox.run_python(
                source,
                function=problem.function,
                call=[case.get("args", []), case.get("kwargs", {})],
                in_place=problem.in_place,
                preamble=preamble,
                stdin=stdin,
                links=links,
                limits=limits,
            )
        else:
            yield sandbox.run(_started(problem), stdin=stdin, files=files, links=links, limits=limits)


def _room_for(case: dict, problem: Problem) -> Limits:
    """The limits, with more output where the accepted ones need it."""
    longest = max((len(json.dumps(output)) for output in case.get("outputs", [case.get("output", "")])), default=0)
    return replace(problem.limits, output_kb=max(problem.limits.output_kb, 2 * longest // 1024 + 64))


def _started(problem: Problem) -> list[str]:
    """By a shell, for which a program that cannot be started is one that failed."""
    command = LANGUAGES[problem.language].run.replace("{heap_mb}", str(int(problem.limits.memory_mb * 0.75)))
    return ["/bin/sh", "-c", command]


_compiled: OrderedDict[str, dict[str, bytes] | str] = OrderedDict()  # by language and source; text: the error
_compiled_lock = Lock()


def compiled(source: bytes, language: str, sandbox: Sandbox) -> dict[str, bytes]:
    """The files of a program that can be started: compiled, or its source where nothing is to compile.

    Raises:
        NotCompiled: with the compiler's last error or the limit it passed.
        SandboxError: the machine was too busy to tell.
    """
    chosen = LANGUAGES[language]
    if chosen.compile is None:
        return {chosen.source: source}
    key = f"{language} {hashlib.sha256(source).hexdigest()}"
    with _compiled_lock:
        made = _compiled.get(key)
        if made is not None:
            _compiled.move_to_end(key)
    if made is None:
        if chosen.header is not None and chosen.header[0].encode() in source:
            _precompile(*chosen.header, sandbox)
        command = f"({chosen.compile}) >&2 && cat {chosen.artifact}"
        result = sandbox.run(["/bin/sh", "-c", command], files={chosen.source: source}, limits=COMPILE_LIMITS)
        made = {chosen.artifact: result.stdout} if result.succeeded else _compiler_error(result)
        if result.stopped == "time":  # a machine less busy may compile it
            raise NotCompiled(made)
        with _compiled_lock:
            _compiled[key] = made
            while sum(_size(entry) for entry in _compiled.values()) > CACHED_BYTES:
                _compiled.popitem(last=False)
    if isinstance(made, str):
        raise NotCompiled(made)
    return made


_header_lock = Lock()


def _precompile(name: str, command: str, sandbox: Sandbox) -> None:
    """Compile a header once for all programs of a sandbox; where that fails, programs do without."""
    file = sandbox.shared / f"{name}.gch"
    with _header_lock:
        if file.parent.exists():
            return
        file.parent.mkdir(parents=True)
        result = sandbox.run(
            ["/bin/sh", "-c", f"{command} >&2 && cat header"],
            files={"header.h": f"#include <{name}>\n".encode()},
            limits=COMPILE_LIMITS,
        )
        if result.succeeded:
            partial = file.with_suffix(".partial")
            partial.write_bytes(result.stdout)
            partial.chmod(0o644)
            partial.rename(file)


def _size(entry: dict[str, bytes] | str) -> int:
    return len(entry) if isinstance(entry, str) else sum(len(content) for content in entry.values())


def _compiler_error(result: Result) -> str:
    if result.stopped:
        return f"{result.stopped} limit of the compiler"
    lines = result.stderr.decode(errors="replace").splitlines()
    return next((line for line in lines if "error" in line), lines[-1] if lines else f"exit code {result.exit_code}")[
        :200
    ]


def fault_of(result: Result, case: dict, problem: Problem, sandbox: Sandbox) -> str | None:
    """What is wrong with a program's result on a case; None if nothing is."""
    if result.stopped:
        return f"{result.stopped} limit"
    if result.exit_code:
        last = result.stderr.decode(errors="replace").strip().splitlines()[-1:]
        python = f" on Python {sandbox.python.version}" if _of_version(last, problem) else ""
        return f"exit code {result.exit_code}{python}" + "".join(f" ({line[:200]})" for line in last)
    found = result.stdout
    if problem.function is not None:
        [found, *_] = found.splitlines() or [b""]
        if not found:
            return "no result"
    if case.get("tolerance") is not None:
        problem = replace(problem, tolerance=case["tolerance"])
    if same_output(found, problem.accepted(case), problem, sandbox):
        return None
    if problem.function is None:
        return "wrong output"
    raised = re.fullmatch(r'\{"\$error": "(.*)"\}', found.decode(errors="replace"))
    return f"exception ({raised[1]})" if raised else "wrong result"


def _of_version(last: list[str], problem: Problem) -> bool:
    """Whether an error may be due to a program that is written for a newer Python."""
    return problem.language == "python" and any(line.startswith(("SyntaxError:", "ImportError:")) for line in last)


def same_output(found: bytes, accepted: list, problem: Problem, sandbox: Sandbox) -> bool:
    """Whether an output, of a function a line of encoded JSON, is one of the accepted ones."""
    if problem.function is not None:
        how: tuple = (problem.compare, problem.tolerance)
        expected = json.dumps(accepted).encode()
        if len(found) + len(expected) <= COMPARED_HERE:
            return comparison.same_result(found, accepted, *how)
        return _compare_apart("compare_result", found, expected, how, sandbox)
    how = (problem.compare, problem.tolerance, problem.ignore_case)
    for expected in (text.encode() for text in accepted):
        if found == expected:
            return True
        if len(found) + len(expected) <= COMPARED_HERE:
            same = comparison.same_text(found, expected, *how)
        else:
            same = _compare_apart("same_text", found, expected, how, sandbox)
        if same:
            return True
    return False


def _compare_apart(function: str, found: bytes, expected: bytes, how: tuple, sandbox: Sandbox) -> bool:
    """Compare in a sandbox, where chosen outputs can neither hang nor grow this process.

    What takes longer than the limits is not the same.
    """
    args = [{"$bytes": found.hex()}, {"$bytes": expected.hex()}, *how]
    result = sandbox.run_python(_comparison(), function=function, call=[args, {}], limits=COMPARE_LIMITS)
    return result.stdout == b"true\n"


@lru_cache
def _comparison() -> bytes:
    return Path(comparison.__file__).read_bytes()


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
            raise ValueError(f"the label is not JSON ({error}): {label!r:.60}") from error
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
                raise ValueError(f"{path}, line {number}: it must be a JSON object with id") from error
            if name in offsets:
                raise ValueError(f"{path}, line {number}: the id {name!r} is there twice")
            offsets[name] = position
            position += len(line)
    return offsets
