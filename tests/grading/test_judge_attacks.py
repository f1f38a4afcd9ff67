"""Attacks on a judge that says true to whatever it is asked: rejected without asking, by construction.

What passes here for an answer's form rests on the model (docs/judges.md). The vetoes were written with these attacks
at hand; the held-out list was written afterwards and changed nothing.
"""

import json
from pathlib import Path

import pytest
from judge_server import serving, verdict

from kimi_plugins.grading.judge.judge import Judge

REFERENCES = {
    "18": "How many dollars does she make?",
    "(a+2)(a-2)": "Factor the polynomial.",
    "(3,4)": "Which point is nearest?",
    r"\text{Monday}": "On which day do they meet?",
    r"\frac{\sqrt{3}}{2}": "Find the sine of 60 degrees.",
    "x>3": "Solve the inequality.",
}


def attacks(name: str) -> list[tuple[str, str]]:
    rows = map(json.loads, (Path(__file__).parent / name).open(encoding="utf-8"))
    return [(row["kind"], row.get("response", rf"So it is \boxed{{{row.get('answer')}}}.")) for row in rows]


@pytest.fixture(scope="module")
def gullible():
    with serving(lambda *_: (200, verdict(True))) as server, Judge(url=server.url, slots=2) as judge:
        judge.requests = server.requests
        yield judge


def accepted(judge, rows) -> list:
    return [
        (kind, response, reference)
        for reference, question in REFERENCES.items()
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
