"""Math grading: accuracy beside math-verify and OpenRLHF's own grader, by kind; speed, memory, time to replace.

python benchmarks/math_grading.py [--math500 math500.jsonl] [--gsm8k model_solutions.jsonl] [--repeats 5] [--out FILE]

The labelled pairs, the cases by kind and the pairs written before the grader saw them are the tests'
(tests/grading/math_*.jsonl). Speed is measured in one process, without time-outs, and with graders that can be killed.
MATH-500 (`answer`, `solution`) adds its solutions
graded against their own answers, and variants of its answers that are right or wrong by construction. The GSM8K file
(`completion`, `gold`, `label`) has model solutions that people checked. A grader that takes longer than --deadline
for one response is killed, which counts as a failed grade: not accepted, and listed.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path

from common import RESULTS, machine, progress, spread, write_json

from kimi_plugins import options
from kimi_plugins.grading import frames
from kimi_plugins.grading.math.notation import number, tidy
from kimi_plugins.grading.workers import Pool

PAIRS = Path(__file__).parents[1] / "tests/grading/math_pairs.jsonl"
GSM8K_PATTERN = "^A:"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--math500", type=Path, default=None)
    parser.add_argument("--gsm8k", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--deadline", type=float, default=30.0, help="seconds for one response, default 30")
    parser.add_argument("--speed-only", action="store_true", help="keep the accuracy in FILE, which takes minutes")
    parser.add_argument("--out", type=Path, default=RESULTS / "math_grading.json")
    args = parser.parse_args()

    pairs = [json.loads(line) for line in PAIRS.open(encoding="utf-8")]
    rows = [
        (row["category"], row.get("response", _boxed(row.get("answer", ""))), row["reference"], row["correct"])
        for row in pairs
    ]
    sets = {"labelled pairs": rows}
    cases = [json.loads(line) for line in PAIRS.with_name("math_cases.jsonl").open(encoding="utf-8")]
    sets["cases by kind"] = [(row["kind"], row["response"], row["reference"], row["right"]) for row in cases]
    unseen = [json.loads(line) for line in PAIRS.with_name("math_unseen_pairs.jsonl").open(encoding="utf-8")]
    sets["pairs written unseen"] = [("", _boxed(row["answer"]), row["reference"], row["correct"]) for row in unseen]
    workloads = {"labelled pairs": ([(response, reference) for _, response, reference, _ in rows], None)}
    if args.math500:
        problems = [json.loads(line) for line in args.math500.open(encoding="utf-8")]
        solutions = [("solutions", row["solution"], row["answer"], True) for row in problems]
        sets["MATH-500 solutions"] = solutions
        sets["MATH-500 variants"] = list(variants([row["answer"] for row in problems]))
        work = [(response, reference) for _, response, reference, _ in sets["MATH-500 variants"]]
        workloads["MATH-500 variants"] = work, None

    result = {"machine": machine() | {"versions": _versions()}, "accuracy": {}}
    if args.speed_only:
        result["accuracy"] = json.loads(args.out.read_text())["accuracy"]
    for name, rows in sets.items() if not args.speed_only else ():
        result["accuracy"][name] = {"pairs": len(rows)}
        for grader, grade in GRADERS.items():
            verdicts = graded(grade, rows, args.deadline)
            result["accuracy"][name][grader] = accuracy(rows, verdicts)
            progress(f"{name}, {grader}: {_summary(result['accuracy'][name][grader])}")
            if name == "labelled pairs":
                # What rests on a rule of ours, as on missing units, says little of other graders.
                plain = [
                    (row, verdict)
                    for row, verdict, pair in zip(rows, verdicts, pairs, strict=True)
                    if "rule" not in pair
                ]
                figures = accuracy(*zip(*plain, strict=True)) | {"disagreements": []}
                result["accuracy"].setdefault("labelled pairs without rules", {"pairs": len(plain)})[grader] = figures
                progress(f"without rules: {_summary(figures)}")
    if args.gsm8k:
        solutions = [json.loads(line) for line in args.gsm8k.open(encoding="utf-8")]
        numeric = [(row["completion"], row["gold"]) for row in solutions]
        workloads["GSM8K model solutions"] = numeric, GSM8K_PATTERN
        rows = [("solutions", *pair, row["label"]) for pair, row in zip(numeric, solutions, strict=True)]
        with _pool(pattern=GSM8K_PATTERN) as pool:
            verdicts = [verdict.correct for verdict in pool.grade_all(numeric)]
        result["accuracy"]["GSM8K model solutions"] = {"pairs": len(rows), "kimi": accuracy(rows, verdicts)}
        progress(f"GSM8K: {_summary(accuracy(rows, verdicts))}")
    result["grades"] = {
        name: {"grades": len(work), **_speeds(work, pattern, args.repeats)}
        for name, (work, pattern) in workloads.items()
    }
    result["in_process"] = {name: _in_process(rows) for name, rows in sets.items() if name != "MATH-500 variants"}
    result["hostile"] = _hostile()
    result["worker"] = _worker_figures(workloads["labelled pairs"][0], args.repeats)
    write_json(args.out, result)
    return 0


def _boxed(answer: str) -> str:
    return rf"The answer is $\boxed{{{answer}}}$."


def _versions() -> dict:
    from importlib import metadata

    return {name: metadata.version(name) for name in ("openrlhf", "math-verify", "latex2sympy2_extended", "sympy")}


# The graders: (response, reference) → whether it is right.


def _kimi(response: str, reference: str) -> bool | None:
    from kimi_plugins.grading.math.grade import grade

    return grade(response, reference).correct


def _math_verify(response: str, reference: str) -> bool:
    from math_verify import parse, verify

    return verify(parse(f"${reference}$"), parse(response))


def _openrlhf(response: str, reference: str) -> bool:
    from openrlhf.utils.math_utils import extract_boxed_answer, grade_answer

    return grade_answer(extract_boxed_answer(response), reference)


GRADERS = {"kimi": _kimi, "math-verify": _math_verify, "openrlhf": _openrlhf}


def graded(grade, rows: list[tuple], deadline: float) -> list[bool | None]:
    """The verdicts of a grader in a process of its own; None where it had to be killed or raised."""
    context, verdicts = multiprocessing.get_context("fork"), []
    process = None
    for _, response, reference, _ in rows:
        if process is None:
            ours, theirs = context.Pipe()
            process = context.Process(target=_answer, args=(theirs, grade), daemon=True)
            process.start()
            theirs.close()
        ours.send((response, reference))
        try:
            verdict = ours.recv() if ours.poll(deadline) else "killed"
        except EOFError:
            verdict = "died"
        if isinstance(verdict, str):
            progress(f"  {verdict}: {ascii(response[-60:])} for {reference[:40]}")
            process.kill()
            process.join()
            process, verdict = None, None
        verdicts.append(verdict)
    if process is not None:
        process.kill()
        process.join()
    return verdicts


def _answer(connection, grade) -> None:
    import logging
    import resource

    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
    while True:
        response, reference = connection.recv()
        try:
            verdict = grade(response, reference)
        except Exception as error:  # whatever a grader raises is counted
            verdict = f"raised {type(error).__name__}"
        connection.send(verdict)


def accuracy(rows: list[tuple], verdicts: list[bool | None]) -> dict:
    """Precision and recall of "right", accuracy, counts, and accuracy by category. A failed grade is not accepted."""
    counts, by_category, wrong = Counter(), defaultdict(list), []
    faults: defaultdict[str, dict] = defaultdict(lambda: {"false_accepts": 0, "false_rejects": 0})
    for (category, response, reference, correct), verdict in zip(rows, verdicts, strict=True):
        counts[correct, bool(verdict)] += 1
        by_category[category].append(bool(verdict) is correct)
        if bool(verdict) is not correct:
            faults[category]["false_accepts" if verdict else "false_rejects"] += 1
            wrong.append([category, ascii(response[-80:]), reference[:80], correct, verdict])
    accepted, right = counts[True, True] + counts[False, True], counts[True, True] + counts[True, False]
    return {
        "precision": round(counts[True, True] / accepted, 4) if accepted else None,
        "recall": round(counts[True, True] / right, 4) if right else None,
        "accuracy": round((counts[True, True] + counts[False, False]) / len(rows), 4),
        "false_accepts": counts[False, True],
        "false_rejects": counts[True, False],
        "failed": sum(verdict is None for verdict in verdicts),
        "by_category": {name: round(sum(hits) / len(hits), 4) for name, hits in by_category.items()},
        "faults_by_category": dict(faults),
        "disagreements": wrong[:200],
    }


def _summary(figures: dict) -> str:
    names = ("precision", "recall", "accuracy", "false_accepts", "false_rejects", "failed")
    return ", ".join(f"{name} {figures[name]}" for name in names)


def variants(answers: list[str]):
    """(category, response, reference, right?) of answers rewritten without and with a change of value."""
    rng = random.Random(0)
    for place, answer in enumerate(answers):
        for right, text in [(True, text) for text in _rewritten(answer)] + [
            (False, text) for text in _changed(answer)
        ]:
            yield ("right" if right else "wrong"), _boxed(text), answer, right
        other = answers[(place + rng.randrange(1, len(answers))) % len(answers)]
        if "".join(tidy(other).split()) != "".join(tidy(answer).split()) and not _same_number(other, answer):
            yield "another's", _boxed(other), answer, False


def _same_number(a: str, b: str) -> bool:
    values = [number(tidy(text).replace(r"^\circ", "").replace("＄", "")) for text in (a, b)]
    return None not in values and values[0].value == values[1].value


def _rewritten(answer: str):
    yield answer.replace(r"\frac{", r"\dfrac{").replace(",", " , " if "(" in answer else ",")
    yield f" {answer}."
    found = number(tidy(answer))
    if found is not None:
        value = found.value
        yield f"x = {answer}"
        yield rf"\frac{{{3 * value.numerator}}}{{{3 * value.denominator}}}"
        yield rf"{answer}\text{{ units}}"
        if value.denominator == 1:
            yield f"{value}.0"
            yield f"{int(value):,}".replace(",", "{,}")
        elif Fraction(str(float(value))) == value:
            yield str(float(value))
    elif answer.startswith(r"\left(") and answer.count(",") == 1:
        yield answer.replace(r"\left", "").replace(r"\right", "")


def _changed(answer: str):
    found = number(tidy(answer))
    if found is not None:
        value = found.value
        changed = {value + 1, -value, 10 * value, value + Fraction(1, 1000), 1 / value if value else Fraction(7)} - {
            value
        }
        for new in sorted(changed):
            yield rf"\frac{{{new.numerator}}}{{{new.denominator}}}" if new.denominator > 1 else str(new)
        if Fraction(rounded := f"{float(value):.6f}") != value:
            yield rounded
    elif not any(mark in answer for mark in (r"\text", ",", "=", "begin", "_", "infty", "circ", "\\$", "mbox")):
        yield f"{answer}+1"
        yield f"2({answer})"
        yield f"-({answer})"
    elif answer.startswith((r"\left(", "(")) and answer.count(",") == 1 and "infty" not in answer:
        head, _, tail = answer.removeprefix(r"\left").removesuffix(")").removesuffix(r"\right").partition(",")
        if head.strip("( ") != tail.strip():
            yield f"({tail.strip()},{head.strip('( ')})"


# Speed, memory and replacement of a grader process.


def _pool(**changed) -> Pool:
    defaults = options.MathGrader()
    return Pool(**{"workers": 1, "timeout": defaults.timeout, "memory_mib": defaults.memory_mib} | changed)


def _speeds(work: list[tuple[str, str]], pattern: str | None, repeats: int) -> dict:
    """Grades of one process, per second and per second of its CPU time, which other jobs do not change.

    Every repeat has a new process: an expression that was graded before is remembered.
    """
    speeds, per_cpu_second = [], []
    with _pool(pattern=pattern) as pool:
        pool.grade(*work[0])
        for _ in range(repeats):
            for pid in pool.processes():
                os.kill(pid, signal.SIGKILL)
            pool.grade(*work[0])  # fails if the process is not quite dead yet
            pool.grade(*work[0])
            [pid] = pool.processes()
            began, cpu = time.perf_counter(), _cpu_seconds(pid)
            for pair in work:
                pool.grade(*pair)
            speeds.append(round(len(work) / (time.perf_counter() - began), 1))
            if pool.processes() == [pid]:
                per_cpu_second.append(round(len(work) / (_cpu_seconds(pid) - cpu), 1))
    progress(f"grades a second {speeds}, a CPU second {per_cpu_second}")
    return {"per_second": spread(speeds), "per_cpu_second": spread(per_cpu_second)}


def _in_process(rows: list[tuple]) -> dict:
    """Seconds of CPU time of the graders in this process, math-verify without its time-outs, on the same rows."""
    from math_verify import parse, verify

    from kimi_plugins.grading.math.grade import grade

    def math_verify(response: str, reference: str) -> None:
        try:
            gold = parse(f"${reference}$", parsing_timeout=None)
            verify(gold, parse(response, parsing_timeout=None), timeout_seconds=None)
        except Exception:  # whatever it raises takes time too
            pass

    # What keeps math-verify alone busy for minutes measures one row and not the set.
    rows = [row for row in rows if row[0] != "adversarial"]
    seconds = {}
    for name, grader in (("kimi", grade), ("math-verify", math_verify)):
        began = time.process_time()
        for _, response, reference, _ in rows:
            grader(response, reference)
        seconds[name] = round(time.process_time() - began, 3)
    ratio = round(seconds["math-verify"] / seconds["kimi"], 1)
    progress(f"in process, {len(rows)} rows: {seconds}, {ratio} times as fast")
    return {"rows": len(rows), "cpu_seconds": seconds, "times_as_fast": ratio}


def _hostile(count: int = 2000, every: int = 10) -> dict:
    """Responses of which every tenth is made to take long: whether verdicts are lost, and the largest process."""
    made = [
        "(" * 900 + "5" + ")" * 900,
        "9^{9^{9^{9}}}",
        "+".join(rf"\sin({n}x)" for n in range(150)),
        r"\cup".join(f"({n},{n + 1})" for n in range(100)),
        r"(29999.5)!^{x}",
        "|" * 1900,
    ]
    responses = [made[n // every % len(made)] if n % every == 0 else str(n % 7) for n in range(count)]
    references = ["x^2" if n % every == 0 and n % 20 else "3" for n in range(count)]
    expected = [n % every != 0 and n % 7 == 3 for n in range(count)]
    with _pool(workers=2) as pool:
        began = time.monotonic()
        pairs = zip(map(_boxed, responses), references, strict=True)
        verdicts = list(pool.grade_all(pairs))
        seconds = time.monotonic() - began
        largest = max(_memory_mib(pid)["Rss"] for pid in pool.processes())
    figures = {
        "responses": count,
        "hostile": count // every,
        "as_expected": sum(bool(v.correct) is e for v, e in zip(verdicts, expected, strict=True)),
        "failed": sum(verdict.correct is None for verdict in verdicts),
        "seconds": round(seconds, 1),
        "largest_process_mib": largest,
    }
    progress(f"hostile: {figures}")
    return figures


def _cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _worker_figures(work: list[tuple[str, str]], repeats: int) -> dict:
    """Memory after all the work, and seconds from the kill of a process to the first verdict of the next one."""
    starts, resident, own, replaced = [], [], [], []
    for _ in range(repeats):
        with _pool() as pool:
            began = time.perf_counter()
            pool.grade(_boxed("5"), "5")
            starts.append(round(time.perf_counter() - began, 3))
            for pair in work:
                pool.grade(*pair)
            [pid] = pool.processes()
            memory = _memory_mib(pid)
            resident.append(memory["Rss"])
            own.append(memory["Pss"])
            for _ in range(10):
                worker = pool._server.fork(pool.memory_mib)
                began = time.perf_counter()
                worker.kill()
                worker = pool._server.fork(pool.memory_mib)
                frames.send(worker.connection, [_boxed("5"), "5", None])
                frames.receive(worker.connection)
                replaced.append(round(time.perf_counter() - began, 4))
                worker.kill()
    return {
        "first_verdict_seconds": spread(starts),
        "resident_mib": spread(resident),
        "proportional_mib": spread(own),  # what is shared with the fork server counted in parts
        "replaced_seconds": spread(replaced),
    }


def _memory_mib(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: round(int(line.split()[1]) / 1024, 1) for line in lines}


if __name__ == "__main__":
    sys.exit(main())
