"""Training sets of judges: balanced, labelled rightly, and every row accounted for."""

import json
import re
from collections import Counter

import pytest

from kimi_plugins.cli import judge_data as make_data
from kimi_plugins.grading.judge.data import INJECTIONS, Sample, balanced, reasoning
from kimi_plugins.grading.judge.prompt import Case, read_reply
from kimi_plugins.grading.math.grade import grade_answer
from kimi_plugins.grading.math.notation import number, tidy


def row(question, reference, answer, correct, **more):
    text = rf"thinking, then \boxed{{{answer}}}"
    return {"question": question, "reference": reference, "response": text, "correct": correct} | more


def rows():
    for n in range(20):
        yield row(f"question {n}?", str(10 + n), str(10 + n), True)
        yield row(f"question {n}?", str(10 + n), str(50 + n), False)
        yield row(f"question {n}?", str(10 + n), str(70 + n), False)


def command(tmp_path, *flags, data=None, name="samples.jsonl"):
    """The exit code, having written the rows to a file."""
    import argparse

    path = tmp_path / name
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in data or rows()))
    parser = argparse.ArgumentParser()
    make_data.add_parser(parser.add_subparsers())
    args = parser.parse_args(["judge-data", str(path), "--out", str(tmp_path / "out"), *flags])
    return args.func(args)


def read(path):
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def test_both_sets_have_the_same_cases_half_of_them_right(tmp_path, capsys):
    assert command(tmp_path) == 0
    cot, classic = read(tmp_path / "out/cot.jsonl"), read(tmp_path / "out/classic.jsonl")
    labels = Counter(read_reply(entry["output"])[0] for entry in cot)
    assert labels[True] == labels[False] == len(classic) == 40
    plain = [_without_code(entry["input"]) for entry in cot]
    assert sorted(plain) == sorted(_without_code(text) for entry in classic for text in entry.values())
    right = {_without_code(e["input"]) for e in cot if read_reply(e["output"])[0]}
    assert {_without_code(entry["chosen"]) for entry in classic} == right
    printed = capsys.readouterr().out
    assert "openrlhf sft " in printed and "openrlhf rm " in printed and "--model.loss_type pointwise" in printed


def _without_code(text):
    return re.sub(r"[0-9a-f]{16}", "", text)


def test_every_row_is_in_the_summary(tmp_path):
    data = [*rows(), "{broken\n", row("q", "1", "1", None), row("", "1", "1", True), row("q", ["1"], "1", True)]
    data += [row("q", "1", "x" * 400, False), row("q", "1", "", False), row("question 1?", "11", "11", True), "[1]\n"]
    assert command(tmp_path, "--injected", "0.5", data=data) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["rows"] == 68 and summary["cases"] == sum(summary["origin"].values())
    used = summary["origin"]["sample"] + summary["origin"]["sample, injected"]
    assert used + sum(summary["dropped"].values()) == summary["rows"]
    assert summary["dropped"]["unreadable"] == 2 and "row 61" in summary["unreadable"][0]
    for reason in (
        "not graded: correct is neither true nor false",
        "no question: question is missing, empty or no text",
        "no reference: reference is missing, empty or no text",
        "never asked of a judge: too long for an answer",
        "never asked of a judge: the final answer is empty",
        "an answer to the question that is there already",
    ):
        assert summary["dropped"][reason] == 1, reason


def test_made_cases_have_the_right_label():
    samples = [Sample(Case(f"q{n}", reference, answer), label) for n, (reference, answer, label) in enumerate(PAIRS)]
    kept, _ = balanced(samples, injected=0.0, seed=1)
    made = [found for found in kept if found.origin != "sample"]
    assert {found.origin for found in made} >= {"the reference", "a near number", "another question's"}
    for found in kept:
        assert grade_answer(found.case.answer, found.case.reference).correct is found.correct, found
    by_question = Counter((found.case.question, found.correct) for found in kept)
    assert all(by_question[question, True] == by_question[question, False] for question, _ in by_question)


PAIRS = [
    *[(str(n), str(n), True) for n in range(3, 9)],
    *[(rf"\frac{{{n}}}{{7}}", "5", False) for n in range(1, 6)],
    ("a^2-4", "(a-2)(a+2)", True),
    ("x+1", "x+2", False),
]


def test_injections_are_wrong_and_as_many_as_asked():
    samples = [Sample(Case(f"q{n}", str(n), str(n + 1)), False) for n in range(400)]
    kept, _ = balanced(samples, injected=0.25, seed=2)
    injected = [found for found in kept if found.origin.endswith("injected")]
    assert 60 <= len(injected) <= 140 and not any(found.correct for found in injected)
    assert not any(found.case.answer == found.case.reference for found in injected)
    assert "is not an answer" in reasoning(injected[0])
    assert all(number(tidy(text.format(wrong="5"))) is None for text in INJECTIONS)


def test_a_teachers_reasoning_is_taken(tmp_path):
    data = [row("q", "4", "4", True, why="because 2+2"), row("q", "4", "5", False, why=None)]
    assert command(tmp_path, "--reasoning-column", "why", "--injected", "0", data=data) == 0
    outputs = [read_reply(entry["output"]) for entry in read(tmp_path / "out/cot.jsonl")]
    assert (True, "because 2+2") in outputs
    assert (False, "The reference answer is 4. The final answer is 5. They differ.") in outputs


def test_the_same_seed_makes_the_same_files(tmp_path):
    made = []
    for _ in range(2):
        command(tmp_path)
        made.append([(tmp_path / "out" / name).read_bytes() for name in ("cot.jsonl", "classic.jsonl")])
    assert made[0] == made[1]


@pytest.mark.parametrize(
    "flags, data, name, message",
    [
        ((), [row("q", "1", "1", None)], "a.jsonl", "no case is left of 1 rows: 1 × not graded"),
        ((), ["\n"], "a.jsonl", "no case is left of 0 rows: the files are empty"),
        ((), ["x"], "a.txt", "unknown format; convert it to JSONL"),
        (("--injected", "2"), [], "a.jsonl", "--injected 2.0: it is a share"),
        (("--answer-pattern", "("), [], "a.jsonl", "is not a regular expression"),
    ],
)
def test_bad_input(tmp_path, capsys, flags, data, name, message):
    assert command(tmp_path, *flags, data=data or None, name=name) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
