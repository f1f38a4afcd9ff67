"""Attacks on a judge that says true to whatever it is asked: rejected without asking, by construction.

What passes here for an answer's form rests on the model (docs/judges.md). The vetoes were written with these attacks
at hand; the held-out list was written afterwards and changed nothing.
"""

import json
from pathlib import Path

import pytest
from judge_server import serving, verdict

from kimi_plugins.grading.judge.judge import Judge
from kimi_plugins.grading.judge.number_words import parts
from kimi_plugins.grading.judge.vetoes import veto

REFERENCES = {
    "18": "How many dollars does she make?",
    "(a+2)(a-2)": "Factor the polynomial.",
    "(3,4)": "Which point is nearest?",
    r"\text{Monday}": "On which day do they meet?",
    r"\frac{\sqrt{3}}{2}": "Find the sine of 60 degrees.",
    "x>3": "Solve the inequality.",
}


# With a unit or words beside the number: there the rules leave more to a judge.
NUMBERS = {
    r"12\text{ cm}": "How long is it?",
    r"5\text{ ft }3\text{ in}": "How tall is he?",
    r"\text{3 apples}": "What is left?",
    r"\$18.50": "What does she pay?",
    r"50\%": "What share is it?",
    r"\text{July 4, 1776}": "When was it?",
    r"\text{between 3 and 5}": "Where is it?",
    r"3\text{ or }4": "How many can there be?",
    r"2^{10}\text{ bytes}": "How large is it?",
    r"\text{Room 12}": "Where do they meet?",
    r"\text{half past 3}": "When do they meet?",
    "18": "How many?",
    "x^2+3x+2": "Expand.",
}


def attacks(name: str) -> list[tuple[str, str]]:
    rows = map(json.loads, (Path(__file__).parent / name).open(encoding="utf-8"))
    return [(row["kind"], row.get("response", rf"So it is \boxed{{{row.get('answer')}}}.")) for row in rows]


@pytest.fixture(scope="module")
def gullible():
    with serving(lambda *_: (200, verdict(True))) as server, Judge(url=server.url, workers=2) as judge:
        judge.requests = server.requests
        yield judge


def accepted(judge, rows, references=REFERENCES) -> list:
    return [
        (kind, response, reference)
        for reference, question in references.items()
        for kind, response in rows
        if judge.grade(question, response, reference).correct is not False
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name, share", [("judge_attacks.jsonl", 0.99), ("judge_attacks_held_out.jsonl", 0.9)])
def test_attacks_are_rejected_without_asking(gullible, name, share):
    rows = attacks(name)
    assert len(rows) >= 50
    passed = accepted(gullible, rows)
    assert len(passed) <= (1 - share) * len(rows) * len(REFERENCES), passed


@pytest.mark.slow
def test_attacks_on_references_with_numbers_are_rejected_without_asking(gullible):
    rows = attacks("judge_attacks.jsonl") + attacks("judge_attacks_held_out.jsonl")
    passed = accepted(gullible, rows, NUMBERS)
    assert len(passed) <= 0.01 * len(rows) * len(NUMBERS), passed


@pytest.mark.parametrize(
    "text, numbers",
    [
        (r"\text{twenty-six}", ["26"]),
        ("one and a half hours", ["3/2 hours"]),
        ("two thirds", ["2/3"]),
        ("a hundred and five, fifty", ["105", "50"]),
        ("5 million", ["5000000"]),
        ("1 1/2 cups", ["3/2 cups"]),
        (r"\frac12\text{ cup}", ["1/2 cup"]),
        (r"3,600\text{ s}", ["3600 s"]),
        ("two three", ["2", "3"]),
        ("4 July 1776", ["4 july", "1776"]),
        ("a word", []),
    ],
)
def test_numbers_in_digits_and_words(text, numbers):
    assert [f"{part.value} {part.word}".strip() for part in parts(text)] == numbers


@pytest.mark.parametrize(
    "answer, reference, reason",
    [
        (r"\text{4 July 1776}", r"\text{July 4, 1776}", None),
        (r"\text{half a cup}", r"\frac12\text{ cup}", None),
        (r"\text{sixty-three inches tall}", r"5\text{ ft }3\text{ in}", None),
        (r"\text{an hour and a half}", r"\text{90 minutes}", "another number"),  # the price: "an hour" is no number
        (r"\text{between five and three}", r"\text{between 3 and 5}", None),
        (r"\text{twelve feet}", r"12\text{ cm}", None),  # left to the judge
        (r"\text{fifty percent}", r"50\%", None),
        (r"18\text{ dollars and }5\text{ cents}", "18.50", "another number"),
        (r"\text{seven days}", r"\text{12 days}", "another number"),
        (r"\text{some}", r"12\text{ cm}", "the answer has none"),
    ],
)
def test_vetoes_compare_numbers(answer, reference, reason):
    found = veto(answer, reference)
    assert found is None if reason is None else reason in found


def test_the_judge_would_have_been_fooled(gullible):
    before = len(gullible.requests)
    assert gullible.grade("On which day?", r"\boxed{Tuesday}", r"\text{Monday}").correct is True
    assert len(gullible.requests) == before + 1


@pytest.mark.parametrize(
    "answer, reference",
    [
        ("eighteen", "18"),
        (r"\text{eighteen dollars}", "18"),
        (r"\text{one and a half}", r"\frac32"),
        (r"\text{one half}", "0.5"),
        (r"\text{twenty-six}", "26"),
        (r"18\text{ dollars and }50\text{ cents}", "18.50"),
        ("(3,4)", "3,4"),
        ("3, 4", "(3,4)"),
        (r"\begin{pmatrix}3\\4\end{pmatrix}", "(3,4)"),
        (r"x\text{ is greater than }3", "x>3"),
        (r"\text{all numbers greater than }3", "x>3"),
        (r"\text{a squared minus four}", "a^2-4"),
        (r"\text{a week}", r"\text{seven days}"),
        (r"\text{car}", r"\text{automobile}"),
        (r"\text{the Eiffel tower}", r"\text{Eiffel Tower in Paris}"),
        (r"\text{half past three}", "3:30"),
        (r"\text{it is increasing}", r"\text{increasing}"),
        (r"\text{the triangle is right-angled}", r"\text{right triangle}"),
        (r"\text{Mr. Smith}", r"\text{John Smith}"),
        ("5 apples", r"5\text{ fruits}"),
        ("even", r"\text{an even number}"),
        (r"\text{no such number}", r"\text{none}"),
    ],
)
def test_right_answers_in_another_form_reach_the_judge(gullible, answer, reference):
    assert gullible.grade("?", rf"\boxed{{{answer}}}", reference).reason == "judge: compared"
