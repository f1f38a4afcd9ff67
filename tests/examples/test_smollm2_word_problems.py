"""Data preparation and grader of examples/smollm2_word_problems, on made-up rows."""

import importlib.util
import json
import operator
import random
import re
import sys
from fractions import Fraction
from itertools import permutations, product
from pathlib import Path

import pytest
import yaml

from kimi_plugins import options
from kimi_plugins.grading import Grader, Settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "smollm2_word_problems"


def load(name):
    spec = importlib.util.spec_from_file_location(f"smollm2_word_problems_{name}", EXAMPLE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prepare = load("prepare")


@pytest.mark.parametrize(
    "row, problem",
    [
        (
            {"input": "Ann 's 3 hens laid 4 eggs .  How many , Ann ?", "target": 12.0},
            ("Ann's 3 hens laid 4 eggs. How many, Ann?", 12.0),
        ),
        ({"input": "Ben has $ 5\nand earns $2.", "target": 7}, ("Ben has $5 and earns $2.", 7)),
        (
            {
                "Body": "Ben has 9 pens. He loses 4.",
                "Question": "How many are left?",
                "Answer": 5.0,
                "Type": "Subtraction",
            },
            ("Ben has 9 pens. He loses 4. How many are left?", 5.0),
        ),
        (
            {"Body": "Ben has 9 pens. If he loses 4", "Question": "How many are left?", "Answer": 5.0},
            ("Ben has 9 pens. If he loses 4, how many are left?", 5.0),
        ),
    ],
)
def test_rows_of_each_source_become_a_question_and_a_number(row, problem):
    assert prepare.read_problem(row) == problem


@pytest.mark.parametrize(
    "row",
    [
        "a string",
        {},
        {"input": " ", "target": 1},
        {"input": ["How many?"], "target": 1},
        {"input": "How many?"},
        {"input": "How many?", "target": "7"},
        {"input": "How many?", "target": True},
        {"input": "How many?", "target": float("nan")},
        {"input": "How many?", "target": float("inf")},
        {"Question": "How many?", "Answer": 1},
        {"Body": "Ben has 9 pens.", "Question": None, "Answer": 1},
    ],
)
def test_malformed_rows_are_refused(row):
    with pytest.raises(ValueError, match="expected|object"):
        prepare.read_problem(row)


def test_reading_a_file_skips_and_names_malformed_rows(tmp_path):
    path = tmp_path / "mawps_addsub.jsonl"
    path.write_text(
        '{"input": "1 and 2?", "target": 3}\n{"input": \n\n{"input": "2 and 2?", "target": 4}\n{"input": "?"}\n'
    )
    problems, malformed = prepare.read_file(path)
    assert problems == [("1 and 2?", 3), ("2 and 2?", 4)]
    assert [line.split(":")[0] for line in malformed] == [f"mawps_addsub.jsonl row {number}" for number in (2, 3, 5)]


@pytest.mark.parametrize(
    "question, answer, usable",
    [
        ("20 and 0?", 20.0, True),
        ("20, 3 and 4 and 1?", 20.0, True),
        ("No digits?", 3, False),
        ("3 and no other?", 3, False),
        ("21 and 1?", 5, False),
        ("1,000 and 1?", 5, False),
        ("2.5 and 1?", 5, False),
        ("2 and 1?", 21, False),
        ("2 and 1?", 0.5, False),
        ("2 and 3?", -1.0, False),
    ],
)
def test_usable_problems_have_whole_numbers_up_to_the_largest(question, answer, usable):
    assert prepare.is_usable(question, answer, 20) is usable


def questions(side):
    return {prepare.normalised(question) for question, _ in side}


def test_the_split_shares_no_question_and_does_not_depend_on_the_order():
    problems = [(f"{name} has {n} pens. How many?", n) for name in "ABCDEFGHIJ" for n in range(3)]
    train, held_out = prepare.split(problems, 7)
    assert len(held_out) == 9  # whole families of three
    assert questions(train).isdisjoint(questions(held_out))
    assert questions(train) | questions(held_out) == questions(problems)
    assert prepare.split(problems[::-1], 7)[1] != [] and questions(prepare.split(problems[::-1], 7)[1]) == questions(
        held_out
    )


def test_copies_of_a_question_count_once():
    train, held_out = prepare.split([("Has 3 pens?", 3), ("has 3 pens .", 3), ("HAS 3 pens", 3), ("Other?", 1)], 1)
    assert len(train) + len(held_out) == 2


def test_questions_that_differ_in_their_numbers_only_stay_together():
    train, held_out = prepare.split([(f"Ben has {n} pens.", n) for n in range(20)], 1)
    assert (len(train), len(held_out)) == (0, 20)


@pytest.mark.parametrize(
    "question, answer, example",
    [
        ("Ben has 9 pens and loses 4.", 5.0, "9 - 4"),
        ("Ben has 4 pens. How many to 9?", 5, "9 - 4"),
        ("4 pens and $9.00", 13, "4 + 9"),
        ("3 bags of 6 pens", 18, "3 * 6"),
        ("3 share 18 pens", 6, "18 / 3"),
        ("2 and 2", 4, None),  # a sum or a product
        ("0 and 5", 5, None),
        ("7 and 1", 5, None),  # no operation makes it
        ("9 pens, 3 lost, 1 found", 7, "(9 - 3) + 1"),  # (9 + 1) - 3 is the same
        ("9 pens, 4 lost, 2 of those found", 5, "9 - 4"),  # one number does not matter
        ("5 bags of 6 pens for 3", 10, "(5 * 6) / 3"),
        ("6 pens in each of 12 bags but 2", 60, "(12 - 2) * 6"),
        ("9 pens, 4, 2 and 1", 8, None),
        ("9 pens", 9, None),
    ],
)
def test_worked_examples_are_right_and_unambiguous(question, answer, example):
    assert prepare.worked_example(question, answer) == example


def made(operation, one, other):
    """(value, value with other numbers) of two combined; None where a difference is below 0 or a quotient below 1."""
    (a, x), (b, y) = one, other
    if (operation in "-/" and a < b) or (operation == "/" and not b):
        return None
    compute = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}[operation]
    return compute(a, b), compute(x, y)


def all_ways(numbers):
    """For each value that two or three of the numbers can be made to: what else its ways would come to."""
    terms = list(zip(map(Fraction, numbers), map(Fraction, (17, 5003, 999983)), strict=True))
    found = [made(operation, *pair) for pair in permutations(terms, 2) for operation in "+-*/"]
    for one, other, third in permutations(terms):
        for first, second in product("+-*/", repeat=2):
            if (inner := made(first, one, other)) is not None:
                found += [made(second, inner, third), made(second, third, inner)]
    ways = {}
    for value, probe in filter(None, found):
        ways.setdefault(value, set()).add(probe)
    return ways


def test_worked_examples_of_three_numbers_are_those_without_another_way():
    draw = random.Random(1)
    for _ in range(20):
        numbers = draw.sample(range(1, 30), 3)
        for answer, probes in all_ways(numbers).items():
            if answer in (0, 1) or answer.denominator > 1:  # with two equal halves the order is free
                continue
            example = prepare.worked_example("{} and {} and {}?".format(*numbers), int(answer))
            assert (example is not None) == (len(probes) == 1), (numbers, answer, example)
            if example is not None:
                assert eval(re.sub("[0-9]+", r"Fraction(\g<0>)", example)) == answer


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "data"
    directory.mkdir()
    for name in prepare.FILES:
        rows = [
            {"input": f"Problem {letter} of {name}: 1 and {n}?", "target": 1 + n} for letter in "abcd" for n in (2, 30)
        ]
        (directory / name).write_text("".join(json.dumps(row) + "\n" for row in rows) + "broken\n")
    return directory


def run(monkeypatch, *argv):
    monkeypatch.setattr(prepare, "convert_model", lambda directory: None)
    monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, argv)])
    prepare.main()


def test_prepare_writes_prompts_labels_and_worked_examples(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    run(monkeypatch, "--data", data, "--out", out, "--held-out", 3, "--warm-up", 2, "--largest", 20)
    rows = {
        name: [json.loads(line) for line in (out / f"{name}.jsonl").open()]
        for name in ("train", "held_out", "warm_up")
    }
    assert {name: len(found) for name, found in rows.items()} == {"train": 13, "held_out": 3, "warm_up": 2}
    for row in rows["train"] + rows["held_out"]:
        assert row["input"].endswith(": 1 and 2?\nEquation:") and row["label"] == "3"
    for row in rows["warm_up"]:
        assert row["output"] == " x = 1 + 2"
        assert row["input"] in [other["input"] for other in rows["train"]]
    printed = capsys.readouterr()
    assert "skipped 4 malformed rows, 16 with fewer than two numbers" in printed.out
    assert "mawps_addsub.jsonl row 9" in printed.err


def test_prepare_names_missing_files_and_too_few_problems(data, tmp_path, monkeypatch):
    few = ("--data", data, "--out", tmp_path / "out", "--largest", 20)
    with pytest.raises(SystemExit, match="only 16 problems"):
        run(monkeypatch, *few, "--held-out", 16)
    with pytest.raises(SystemExit, match="only 13 training problems .* lower --warm-up"):
        run(monkeypatch, *few, "--held-out", 3, "--warm-up", 14)
    (data / "svamp_test.jsonl").unlink()
    with pytest.raises(SystemExit, match="no file svamp_test.jsonl"):
        run(monkeypatch, *few)


def test_the_recipes_reward_grades_equations_by_their_result():
    settings = yaml.safe_load((EXAMPLE / "train.yaml").read_text())["kimi"]["rewards"]
    math = options.MathGrader(answer_pattern=settings["math.answer_pattern"], timeout=20.0)
    with Grader(Settings(math=math)) as grader:
        for response, score in (
            (" x = 9 - 4", 1.0),
            (" x = 9 - 4<|im_end|>", 1.0),
            (" x = (9 + 1) / 2", 1.0),
            (" x = 10 - (9 - 4)", 1.0),
            (" x = 35 / 7", 1.0),
            (" x = 5 * 1", 1.0),
            (" x = 9 - 4 = 5", 1.0),
            (" x = 9 - 5", 0.0),
            (" x = (9 - 4", 0.0),
            (" x = 10 / (5 - 5)", 0.0),
            (" x = 4 - 9", 0.0),
            (" x =", 0.0),
            (" 9 - 4", 0.0),
            (" I do not know.", 0.0),
        ):
            assert grader.grade(settings["kind"], response, "5").score == score, response
