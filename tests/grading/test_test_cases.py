"""Test cases from generators and references: the report's thresholds, the funnel, and going on after a stop."""

import argparse
import json

import pytest

from kimi_plugins import cli
from kimi_plugins.grading import test_cases as made
from kimi_plugins.grading.programs import judge_program, read_label
from kimi_plugins.sandbox.pool import SandboxError

pytestmark = pytest.mark.slow

SUM = "print(sum(map(int, input().split())))"
WRONG_SUM = "a, b = map(int, input().split()); print(a - b)"
NUMBERS = "from cyaron import *\nprint(randint(1, 10**6), randint(1, 9))"
FUNCTION = "def last(items): return items[-1] if items else None"
LISTS = "import json, random\nprint(json.dumps([[random.randint(-3, 3) for _ in range(random.randint(0, 3))]]))"
FEW = made.Thresholds(cases=4, valid=4)


def problem(right: int = 10, wrong: int = 0, **more) -> dict:
    return {"id": "a", "submissions": [SUM] * right + [WRONG_SUM] * wrong} | more


@pytest.mark.parametrize("most, others, valid", [(7, 3, True), (6, 4, False), (10, 0, True), (5, 5, False)])
def test_seven_of_ten_must_agree(most, others, valid):
    outputs = ["3"] * most + [f"other {n}" for n in range(others)]
    found, count = made.consensus(outputs, lambda a, b: a == b, 0.7)
    assert (found == "3") is valid and count >= most


def test_failed_runs_agree_on_nothing():
    assert made.consensus([None] * 8 + ["3"] * 2, lambda a, b: a == b, 0.7) == (None, 2)
    assert made.consensus([None] * 10, lambda a, b: a == b, 0.7) == (None, 0)


def test_shares_are_counts_whatever_their_rounding():
    assert [made.needed(0.7, 10), made.needed(0.9, 10), made.needed(0.7, 9), made.needed(1.0, 3)] == [7, 9, 7, 3]


@pytest.mark.parametrize("right, stage", [(10, 7), (9, 7), (8, 5), (6, 3)])
def test_nine_of_ten_must_pass(sandbox, right, stage):
    outcome = made.make_cases(problem(right, 10 - right), NUMBERS, FEW, sandbox)
    assert outcome.stage == stage, outcome
    if stage == 7:
        for case in outcome.row["cases"]:
            assert sum(map(int, case["input"].split())) == int(case["output"])


@pytest.mark.parametrize(
    "data, generator, stage, reason",
    [
        (problem(9), NUMBERS, 0, "9 submissions of 10"),
        (problem(statement="If there are several, print any of them."), NUMBERS, 1, "special judge: the statement"),
        (problem(), None, 2, "no generator"),
        (problem(), "print(1", 2, "the generator made 0 cases (SyntaxError"),
        (
            problem(),
            "import sys\nif int(sys.argv[1]) > 2: raise ValueError('no')\nprint(1, 2)",
            2,
            "the generator made 3",
        ),
        (problem(), "import os\nos._exit(0)", 2, "the generator made 0 cases"),
        (problem(), "while True: pass", 2, "the generator made 0 cases (cpu limit)"),
        (problem(), "import sys\nprint('1', sys.argv[1] if sys.argv[1] > '0' else 'x')", 4, "3 valid cases of 4"),
        (problem(), "print(1, 2)", 2, "the generator made 4 cases, 1 of them different"),
        (problem(submissions=["n = 1 + 1"] * 10), "import sys\nprint(*range(int(sys.argv[1])))", 6, "no mutated"),
    ],
)
def test_where_problems_stop(sandbox, monkeypatch, data, generator, stage, reason):
    monkeypatch.setattr(made, "GENERATOR_LIMITS", made.Limits(cpu_seconds=1))
    outcome = made.make_cases(data, generator, FEW, sandbox)
    assert outcome.stage == stage and reason in outcome.reason, outcome


def test_references_that_disagree_are_a_sign_of_a_special_judge(sandbox):
    data = problem(submissions=[f"print({n % 3})" for n in range(10)])
    outcome = made.make_cases(data, NUMBERS, FEW, sandbox)
    assert (outcome.stage, outcome.reason) == (3, "special judge: the references disagree on 4 of 4 cases")


def test_functions_and_their_none(sandbox):
    data = problem(submissions=[FUNCTION] * 10, function="last")
    outcome = made.make_cases(data, LISTS, made.Thresholds(cases=12, valid=5), sandbox)
    assert outcome.stage == 7, outcome
    outputs = {json.dumps(case["args"]): case["output"] for case in outcome.row["cases"]}
    assert outputs["[[]]"] is None
    assert all((items or [None])[-1] == output for args, output in outputs.items() for items in json.loads(args))
    label = read_label(json.dumps(outcome.row))
    assert judge_program(FUNCTION, label, sandbox).correct
    assert judge_program("def last(items): return items[-1] if items else 0", label, sandbox).correct is False


@pytest.mark.parametrize("text", ["You may print any order", "A checker is used", "find any valid path"])
def test_phrases_of_special_judges(text):
    assert made.SPECIAL_JUDGE.search(text)
    assert not made.SPECIAL_JUDGE.search("Given a list, are any two numbers closer than a threshold? Print YES or NO.")


@pytest.mark.parametrize("name, value", [("cases", 0), ("agree", 1.1), ("passing", 0), ("valid", 51)])
def test_thresholds_that_make_no_sense(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        made.Thresholds(**{name: value})


def command(*arguments) -> int:
    parser = argparse.ArgumentParser()
    cli.add_commands(parser)
    args = parser.parse_args(["test-cases", *map(str, arguments)])
    return args.func(args)


@pytest.fixture
def inputs(tmp_path):
    """Three problems: one is kept, one has no generator, one has too few submissions."""
    rows = [problem(), problem(id="x/b"), problem(3, id="c")]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "generators").mkdir()
    (tmp_path / "generators" / "a.py").write_text(NUMBERS)
    flags = ("--cases", 3, "--valid", 3)
    return tmp_path, (tmp_path / "problems.jsonl", "--generators", tmp_path / "generators", *flags)


def test_the_command_and_its_second_run(sandbox, inputs, capsys, monkeypatch):
    directory, arguments = inputs
    out = directory / "cases.jsonl"
    assert command(*arguments, "--out", out) == 0
    [row] = [json.loads(line) for line in out.read_text().splitlines()]
    assert row["id"] == "a" and len(row["cases"]) == 3 and read_label(f"{out}#a").cases == row["cases"]
    table = capsys.readouterr().out
    assert "3  problems" in table and "1  kept" in table and "− 1 no generator" in table
    # Again with a journal whose last line was cut off: what it holds is not done a second time.
    journal = out.with_name(out.name + ".journal")
    journal.write_bytes(journal.read_bytes() + b'{"key": "cut o')
    done = []
    monkeypatch.setattr(
        made, "make_cases", lambda data, *_: done.append(data["id"]) or made.Outcome(2, "no generator")
    )
    first = out.read_text()
    assert command(*arguments, "--out", out) == 0
    assert (done, out.read_text()) == ([], first)
    (directory / "generators" / "x_b.py").write_text(NUMBERS)
    assert command(*arguments, "--out", out) == 0
    assert done == ["x/b"]


def test_a_failing_sandbox_decides_nothing(sandbox, inputs, monkeypatch):
    directory, arguments = inputs

    def fail(*_):
        raise SandboxError("no cores left")

    monkeypatch.setattr(made, "generate", fail)
    assert command(*arguments, "--out", directory / "out.jsonl") == 1
    assert not (directory / "out.jsonl").exists()
    monkeypatch.undo()
    assert command(*arguments, "--out", directory / "out.jsonl") == 0
    assert (directory / "out.jsonl").read_text().startswith('{"id": "a"')


@pytest.mark.parametrize(
    "line, named",
    [
        ("{", "line 1: "),
        ('{"submissions": []}', "line 1: it must be a JSON object with id"),
        ('{"id": 1}', "line 1: submissions: it must be a list of programs"),
        ('{"id": 1, "submissions": [], "language": "perl"}', "line 1: language is 'perl'"),
        ('{"id": 1, "submissions": []}\n{"id": 1, "submissions": []}', "line 2: the id 1 is there twice"),
        ("", "has no problems"),
    ],
)
def test_bad_input(tmp_path, capsys, line, named):
    file = tmp_path / "problems.jsonl"
    file.write_text(line)
    assert command(file, "--generators", tmp_path, "--out", tmp_path / "out.jsonl") == 2
    assert named in capsys.readouterr().err
    assert command(file, "--generators", tmp_path / "none", "--out", tmp_path / "out.jsonl") == 2
