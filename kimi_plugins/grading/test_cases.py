"""Test cases for code problems, from generators and reference submissions (k1.5 §2.3.5).

The report has a model write the generators; here they are given. A problem is a JSON object with

    id           also the name of its generator: GENERATORS/ID.py, / in the id replaced by _
    submissions  programs that are thought to be right; the first ten are run
    statement    text in which phrases of problems with a special judge are looked for; may be absent
    and what kimi_plugins.grading.programs.Problem knows beside cases: function, language, compare, tolerance, …

A generator is a Python program that may import cyaron. It is run once a case, with the number of the case (from 0) as
its argument and the random module seeded by it, and prints the input: text, or with `function` a JSON array of the
arguments.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from kimi_plugins.data import journal
from kimi_plugins.grading.mutants import mutants
from kimi_plugins.grading.programs import NotCompiled, Problem, judge_program, run_cases, same_output
from kimi_plugins.options import Thresholds
from kimi_plugins.sandbox import generator_server, interpreter
from kimi_plugins.sandbox.pool import Limits, Sandbox, SandboxError

GENERATOR_LIMITS = Limits(wall_seconds=60.0, cpu_seconds=30.0, output_kb=16 << 10)
KEYS = tuple(field.name for field in fields(Problem) if field.name != "cases")
MUTANTS = 10  # tried before cases are thought to reject none

# Problems that accept more than one output. Ours.
SPECIAL_JUDGE = re.compile(
    r"special judge|checker|\b(print|output|return|find|give|choose)s? any\b|\bany (one )?of (them|these)\b"
    r"|\bany (valid|correct|possible|suitable|such|order|answer|solution)"
    r"|\b(multiple|several|more than one) (possible |valid |correct )?(answer|solution|output)s?\b.{0,60}\bany",
    re.IGNORECASE | re.DOTALL,
)
STAGES = (
    "with enough submissions",
    "without special judge by the statement",
    "with a generator that runs",
    "without special judge by the outputs",
    "with enough valid cases",
    "with references that pass them",
    "kept: they reject a mutated reference",
)


@dataclass(frozen=True)
class Outcome:
    """What became of a problem: how many of STAGES it passed, why it stopped, and its row for the code reward."""

    stage: int
    reason: str
    row: dict | None = None


def consensus(outputs: Sequence, same, agree: float) -> tuple[object, int]:
    """The output most submissions gave and how many; None where fewer than the share `agree` gave it.

    outputs: of each submission, None where it failed. same: whether two outputs are equal.
    """
    groups: list[list] = []  # [output, count]
    for output in outputs:
        if output is None:
            continue
        group = next((group for group in groups if same(group[0], output)), None)
        if group is None:
            groups.append([output, 1])
        else:
            group[1] += 1
    if not groups:
        return None, 0
    output, count = max(groups, key=lambda group: group[1])
    return (output if count >= needed(agree, len(outputs)) else None), count


def needed(share: float, of: int) -> int:
    """The least number that is at least the share: 7 for 0.7 of 10, rounding errors aside."""
    return math.ceil(share * of - 1e-9)


def make_cases(data: dict, generator: str | None, thresholds: Thresholds, sandbox: Sandbox) -> Outcome:
    """Generate, validate and check the test cases of one problem.

    generator: its program, None if there is none.

    Raises:
        SandboxError: the sandbox failed; nothing is known about the problem.
    """
    submissions = data["submissions"][: thresholds.submissions]
    if len(submissions) < thresholds.submissions:
        return Outcome(0, f"{len(submissions)} submissions of {thresholds.submissions}")
    if found := SPECIAL_JUDGE.search(data.get("statement", "")):
        return Outcome(1, f"special judge: the statement says “{' '.join(found[0].split())}”")
    if generator is None:
        return Outcome(2, "no generator")
    printed, fault = generate(generator, thresholds.cases, sandbox)
    texts = [text for text in printed if text is not None]
    function = data.get("function")
    if function is not None:
        texts = [text for text in texts if _is_array(text)]
    made = len(texts)
    texts = list(dict.fromkeys(texts))
    inputs = texts if function is None else [json.loads(text) for text in texts]
    if len(inputs) < thresholds.valid:
        different = "" if len(inputs) == made else f", {len(inputs)} of them different"
        return Outcome(2, f"the generator made {made} cases{different}" + (f" ({fault})" if fault else ""))
    settings = _settings(data)
    same = _same(settings, sandbox)
    outputs = [outputs_of(submission, inputs, settings, sandbox) for submission in submissions]
    cases, disputed, passing = [], 0, [True] * len(submissions)
    for text, answers in zip(inputs, zip(*outputs, strict=True), strict=True):
        output, _ = consensus(answers, same, thresholds.agree)
        if output is not None:
            cases.append(_case(text, function, output))
            right = [answer is not None and same(answer, output) for answer in answers]
            passing = [before and now for before, now in zip(passing, right, strict=True)]
        else:
            ran = sum(answer is not None for answer in answers)
            disputed += ran >= needed(thresholds.agree, len(submissions))
    if disputed >= thresholds.disputed * len(inputs):
        return Outcome(3, f"special judge: the references disagree on {disputed} of {len(inputs)} cases")
    if len(cases) < thresholds.valid:
        return Outcome(4, f"{len(cases)} valid cases of {len(inputs)}")
    if sum(passing) < needed(thresholds.passing, len(submissions)):
        return Outcome(5, f"{sum(passing)} of {len(submissions)} references pass")
    row = {"id": data["id"]} | {key: data[key] for key in KEYS if data.get(key) is not None} | {"cases": cases}
    reference = next(text for text, passes in zip(submissions, passing, strict=True) if passes)
    if not _reject_a_mutant(reference, Problem.parse(row), sandbox):
        return Outcome(6, "no mutated reference fails on the cases")
    return Outcome(7, f"{len(cases)} cases", row)


def _reject_a_mutant(reference: str, problem: Problem, sandbox: Sandbox) -> bool:
    """Whether the cases tell a reference from a changed one; programs that are not Python are not changed."""
    if problem.language != "python":
        return True
    for program in mutants(reference, MUTANTS):
        verdict = judge_program(program, problem, sandbox)
        if verdict.correct is None:
            raise SandboxError(verdict.reason)
        if not verdict.correct:
            return True
    return False


def generate(generator: str, cases: int, sandbox: Sandbox) -> tuple[list[str | None], str]:
    """What the generator printed for each case, None where it failed; and the last line of its errors."""
    result = sandbox.run_python(
        Path(generator_server.__file__).read_bytes(),
        arguments=["generator.py", str(cases)],
        files={"generator.py": generator.encode()},
        limits=GENERATOR_LIMITS,
    )
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    fault = f"{result.stopped} limit" if result.stopped else "".join(lines[-1:])
    return [_printed(line) for line in result.stdout.splitlines()[:cases]], fault


def _printed(line: bytes) -> str | None:
    """A line of the generator's server, whose process the generator shares: what is not text counts as failed."""
    try:
        text = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return text if isinstance(text, str) else None


def _is_array(text: str) -> bool:
    try:
        return isinstance(interpreter.decode(json.loads(text)), list)
    except (ValueError, TypeError, RecursionError):
        return False


def outputs_of(program: str, inputs: list, settings: Problem, sandbox: Sandbox) -> list:
    """The output of a program on each input as a case holds it, None where it fails."""
    cases = [{"input" if settings.function is None else "args": text} for text in inputs]
    read = _text if settings.function is None else _value
    try:
        return [
            read(result.stdout) if result.succeeded else None
            for result in run_cases(program, cases, settings, sandbox)
        ]
    except NotCompiled:
        return [None] * len(inputs)


def _text(stdout: bytes) -> str:
    return stdout.decode(errors="replace")


def _settings(data: dict) -> Problem:
    """The problem without its cases, for which an empty one stands."""
    function = data.get("function")
    return Problem.parse(
        {key: data.get(key) for key in KEYS} | {"cases": [_case([] if function else "", function, "")]}
    )


class _Null:
    """Stands for the function's result None, which is an output."""


def _value(stdout: bytes):
    try:
        value = json.loads(stdout)
        interpreter.decode(value)
    except (ValueError, TypeError, RecursionError):
        return None  # $error among them
    return _Null if value is None else value


def _same(settings: Problem, sandbox: Sandbox):
    if settings.function is None:
        return lambda a, b: same_output(a.encode(), [b], settings, sandbox)
    return lambda a, b: a is b or (_Null not in (a, b) and same_output(json.dumps(a).encode(), [b], settings, sandbox))


def _case(text, function: str | None, output) -> dict:
    output = None if output is _Null else output
    return {"input": text, "output": output} if function is None else {"args": text, "output": output}


def read_problems(path: Path) -> list[dict]:
    """Raises ValueError naming the file, the line and what is wrong."""
    problems, seen = [], set()
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                data = json.loads(line)
                if not isinstance(data, dict) or "id" not in data:
                    raise ValueError("it must be a JSON object with id")
                if str(data["id"]) in seen:
                    raise ValueError(f"the id {data['id']!r} is there twice")
                texts = data.get("submissions")
                if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                    raise ValueError("submissions: it must be a list of programs")
                if not isinstance(data.get("statement", ""), str):
                    raise ValueError("statement: it must be text")
                _settings(data)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            seen.add(str(data["id"]))
            problems.append(data)
    if not problems:
        raise ValueError(f"{path} has no problems")
    return problems


class Journal:
    """Finished problems, a JSON line each, so that a run that was stopped goes on where it was."""

    def __init__(self, path: Path):
        self.path = path
        self.done: dict[str, dict] = {}
        if path.exists():
            with path.open("r+b") as file:
                self.done = {record["key"]: record for _, record in journal.records(file)}

    def add(self, key: str, outcome: Outcome) -> None:
        self.done[key] = {"key": key} | asdict(outcome)
        with self.path.open("ab") as file:
            journal.append(file, self.done[key])


def key_of(data: dict, generator: str | None, thresholds: Thresholds) -> str:
    """Changes with whatever the outcome depends on."""
    return journal.digest([data, generator, asdict(thresholds)])


def make_all(
    problems: list[dict], generators: Path, thresholds: Thresholds, kept: Journal, sandbox: Sandbox, progress
) -> list[Outcome]:
    """The outcome of every problem, in order; those in the journal `kept` are not done again.

    progress: called after each problem.

    Raises:
        SandboxError: the sandbox failed; what is finished is in the journal.
    """
    sources = [_generator(generators, data) for data in problems]
    keys = [key_of(data, source, thresholds) for data, source in zip(problems, sources, strict=True)]

    with ThreadPoolExecutor(sandbox.workers) as threads:
        running = {
            threads.submit(make_cases, data, source, thresholds, sandbox): key
            for data, source, key in zip(problems, sources, keys, strict=True)
            if key not in kept.done
        }
        try:
            for _ in range(len(keys) - len(running)):
                progress()
            for finished in as_completed(running):
                kept.add(running[finished], finished.result())
                progress()
        except (KeyboardInterrupt, SandboxError):
            threads.shutdown(wait=False, cancel_futures=True)
            sandbox.close()  # what is running ends now
            raise
    return [Outcome(**{name: kept.done[key][name] for name in ("stage", "reason", "row")}) for key in keys]


def _generator(generators: Path, data: dict) -> str | None:
    path = generators / f"{str(data['id']).replace('/', '_')}.py"
    return path.read_text(encoding="utf-8") if path.exists() else None


def funnel(outcomes: list[Outcome]) -> str:
    """How many problems passed each stage, and why the others did not."""
    lines = [f"{len(outcomes):6}  problems"]
    for number, name in enumerate(STAGES, 1):
        lines.append(f"{sum(outcome.stage >= number for outcome in outcomes):6}  {name}")
        stopped = Counter(
            re.sub(r"\d+", "n", outcome.reason.partition(" (")[0]).partition(": the statement")[0]
            for outcome in outcomes
            if outcome.stage == number - 1
        )
        lines += [f"{'':8}− {count} {reason}" for reason, count in stopped.most_common(5)]
    return "\n".join(lines)
