"""Data preparation and grader of examples/smollm2_word_problems, on made-up rows."""

import importlib.util
import json
import statistics
import sys
from pathlib import Path

import pytest
import yaml

from kimi_plugins import options, run_log
from kimi_plugins.grading import Grader, Settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "smollm2_word_problems"


def load(name):
    spec = importlib.util.spec_from_file_location(f"smollm2_word_problems_{name}", EXAMPLE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prepare, plot = load("prepare"), load("plot")


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
    "question, answer, small",
    [
        ("20 and 0?", 20.0, True),
        ("No digits?", 3, True),
        ("21 and 1?", 5, False),
        ("1,000 and 1?", 5, False),
        ("2.5 and 1?", 5, False),
        ("2 and 1?", 21, False),
        ("2 and 1?", 0.5, False),
        ("2 and 3?", -1.0, False),
    ],
)
def test_small_problems_have_whole_numbers_up_to_the_largest(question, answer, small):
    assert prepare.is_small(question, answer, 20) is small


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
        ("Ben has 9 pens and loses 4.", 5.0, "9 - 4 = 5"),
        ("Ben has 4 pens. How many to 9?", 5, "9 - 4 = 5"),
        ("4 pens and $9.00", 13, "4 + 9 = 13"),
        ("3 bags of 6 pens", 18, "3 * 6 = 18"),
        ("3 share 18 pens", 6, "18 / 3 = 6"),
        ("2 and 2", 4, None),  # a sum or a product
        ("0 and 5", 5, None),
        ("7 and 1", 5, None),  # no operation makes it
        ("9 pens, 4 lost, 2 found", 7, None),
        ("9 pens", 9, None),
    ],
)
def test_worked_examples_are_right_and_unambiguous(question, answer, example):
    assert prepare.worked_example(question, answer) == example


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


def test_prepare_writes_chat_messages_and_labels(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    run(monkeypatch, "--data", data, "--out", out, "--held-out", 3)
    rows = {name: [json.loads(line) for line in (out / f"{name}.jsonl").open()] for name in ("train", "held_out")}
    assert (len(rows["train"]), len(rows["held_out"])) == (13, 3)
    for row in rows["train"] + rows["held_out"]:
        system, user = row["input"]
        assert system == {"role": "system", "content": prepare.INSTRUCTION}
        assert user["role"] == "user" and user["content"].endswith("1 and 2?")
        assert row["label"] == "3"
    for line in (out / "warm_up.jsonl").open():
        row = json.loads(line)
        assert row["output"] == [{"role": "assistant", "content": "1 + 2 = 3"}]
        assert row["input"] in [other["input"] for other in rows["train"]]
    printed = capsys.readouterr()
    assert "skipped 4 malformed rows, 16 with numbers" in printed.out
    assert "mawps_addsub.jsonl row 9" in printed.err


def test_prepare_names_missing_files_and_too_few_problems(data, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="only 16 problems"):
        run(monkeypatch, "--data", data, "--out", tmp_path / "out", "--held-out", 16)
    (data / "svamp_test.jsonl").unlink()
    with pytest.raises(SystemExit, match="no file svamp_test.jsonl"):
        run(monkeypatch, "--data", data, "--out", tmp_path / "out")


def test_the_recipes_reward_grades_equations_by_their_result():
    settings = yaml.safe_load((EXAMPLE / "train.yaml").read_text())["kimi"]["rewards"]
    math = options.MathGrader(answer_pattern=settings["math.answer_pattern"], timeout=20.0)
    with Grader(Settings(math=math)) as grader:
        for response, score in (
            ("9 - 4 = 5", 1.0),
            ("18 / 3 = 6", 0.0),
            ("9 - 4 = 5.0<|im_end|>", 1.0),
            ("2 + 3 = 4 + 1 = 5", 1.0),
            ("5", 0.0),
            ("I do not know.", 0.0),
        ):
            assert grader.grade(settings["kind"], response, "5").score == score, response


def test_standard_error_is_that_of_the_problems_means():
    means = [0.0] * 5 + [0.5] * 3 + [1.0] * 2
    pass1, pass2 = sum(means) / 10, sum(mean > 0 for mean in means) / 10
    assert plot.standard_error(pass1, pass2, 10) == pytest.approx(statistics.stdev(means) / 10**0.5)
    assert plot.standard_error(0.0, 0.0, 10) == 0.0


def test_results_take_the_figures_from_the_log(tmp_path):
    evaluation = {"eval_default_pass1": 0.25, "eval_default_pass2": 0.5, "eval_default_response_length_mean": 9.0}
    run_log.append(tmp_path, "eval", 0, evaluation | {"eval_truncated_rate": 0.125})
    run_log.append(tmp_path, "train", 1, dict.fromkeys(plot.TRAIN_FIGURES.values(), 0.5))
    figures = plot.results(tmp_path, 100)
    assert [(row["step"], row["pass1"], row["cut_off"]) for row in figures["evaluations"]] == [(0, 0.25, 0.125)]
    assert figures["steps"] == [{"step": 1} | dict.fromkeys(plot.TRAIN_FIGURES, 0.5)]
