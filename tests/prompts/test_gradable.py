import json
from pathlib import Path

import pytest

from kimi_plugins.grading.verdict import Kind, Verdict
from kimi_plugins.grading.workers import Pool
from kimi_plugins.prompts.gradable import cleaned, gradable

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool():
    with Pool(1, timeout=5, memory_mib=512) as pool:
        yield pool


def outcomes(answers, pool):
    rows = [{"answer": answer} for answer in answers]
    found = list(gradable(rows, pool.grade_all))
    assert [row for row, _ in found] == rows
    return [reason for _, reason in found]


def test_references_that_can_be_graded(pool):
    answers = [
        "7",
        "-3.5",
        "1,234",
        r"\frac{1}{2}",
        "(1, 2)",
        r"x^2 + 1",
        "Tuesday",
        r"\text{even}",
        "[0, 1)",
        "5 m/s",
    ]
    answers += ["x = 1 or x = 2", r"\{1, 2\}", r"(-\infty, 3) \cup (5, \infty)", "x \\in [-2, 7]", "f(x) = x^2"]
    assert outcomes(answers, pool) == [None] * len(answers)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (r"\frac{1}{2", "not "),
        (r"\sum_{n=1}^\infty", "not "),
        ("3 + ", "not "),
        ("x ++ = / 3)", "not "),
        ("The plane is faster because its engines burn more fuel than the car", "prose: the answer has more than 3"),
        ("the circle of radius 3 around A", "prose: only the label's own words"),
        (r"(1, \sum_{n=1}^\infty, 3)", "not "),
    ],
)
def test_references_that_cannot(pool, answer, reason):
    [found] = outcomes([answer], pool)
    assert found.startswith(reason)


@pytest.mark.parametrize(
    ("label", "solver"),
    [
        ("8 (pencils)", "8"),
        ("4500 (cm²)", "4500"),
        ("-3 is the only possible value", "-3"),
        ("At least 2 numbers", "2"),
        (r"Show that the sum is $\frac{2n+2}{3}$.", r"\frac{2n+2}{3}"),
        ("The period is 8", "8"),
        ("Solution is: $k=4$.", "4"),
        (r"\[ s = f\theta = \boxed{50} \mu m \]", "50"),
        ("Infinitely many solutions", r"\infty"),
        (r"$\frac{40}{3} \approx 13.33$ minutes", r"\frac{40}{3}"),
        (r"\approx 15.15", "15.15"),
        (r"\approx(-\infty, 2.71)", r"(-\infty, 2.71)"),
        ("He adds 5 + 3 = <<5+3=8>>8.\n#### 8", "8"),
        ("60 (km/h)", "60"),
        ("288 (t-shirts)", "288"),
        ("25% (of all)", "25%"),
        ("There are 12 such numbers.", "12"),
        ("Answer: 17", "17"),
        ("about 250 km", "250"),
    ],
)
def test_labels_are_cleaned_to_what_a_solver_writes(pool, label, solver):
    [(row, reason)] = cleaned([({"answer": label}, None)])
    assert reason is None and outcomes([row["answer"]], pool) == [None]
    assert pool.grade(rf"\boxed{{{solver}}}", row["answer"]).correct is True


@pytest.mark.parametrize(
    "label",
    ["x^2+1", "f(x)=x^2", "(1, 2)", "2(x+1)", "8 (x)", "3 (a+b)", "No, 91 = 7 * 13", "no solution", "5 cm", "Tuesday"]
    + [
        "n is not 3",
        "n is divisible by 4",
        "undefined",
        "x is less than 5",
        "f(3)",
        "至少3个",
        "3万元",
        "不是7",
        "2小时30分",
        "向东3米",
        "无解",
        "trivial",
        "2 (mod 5)",
        "-2 < x < 3",
    ]
    + ["Ann is 5 and Bob is 7", "5 (base 7)", "the empty set", r"1.5 \times 10^3", "8 (2 each)"],
)
def test_labels_that_are_answers_stay(label):
    assert list(cleaned([({"answer": label}, None)])) == [({"answer": label}, None)]


@pytest.mark.parametrize(
    "label",
    ["nan", "None", "N/A", "TBD", "proof", "Answers may vary", r"\text{See the figure}", "n.a.", "N / A", "?", "--"]
    + ["See solution", "Proof.", "Proofs may differ", "answers will vary", "QED", "略", "见解析", r"$\square$", "..."]
    + ["not given", "unknown", "It depends on the choice", "Sample answer: 3", "The solution is above"],
)
def test_labels_that_are_no_answers_are_rejected(label):
    [(_, reason)] = cleaned([({"answer": label}, None)])
    assert reason.startswith("no answer: the label is “")


LABELS = [json.loads(line) for line in Path(__file__).with_name("labels.jsonl").open(encoding="utf-8")]


@pytest.mark.parametrize("case", LABELS, ids=lambda case: case["label"])
def test_labels_of_many_languages_and_forms(pool, case):
    [(row, reason)] = cleaned([({"answer": case["label"]}, None)])
    if case["solver"] is None:
        assert reason is not None or outcomes([row["answer"]], pool) != [None]
        return
    assert reason is None and outcomes([row["answer"]], pool) == [None]
    for solver in case["solver"]:
        assert pool.grade(rf"\boxed{{{solver}}}", row["answer"]).correct is True


def test_a_failed_grade_is_tried_again_alone():
    asked = []

    def grade_all(pairs):
        pairs = list(pairs)
        asked.append(len(pairs))
        yield from (Verdict(Kind.RIGHT if len(pairs) == 1 else Kind.FAILED, "busy") for _ in pairs)

    assert [reason for _, reason in gradable([{"answer": "x^2"}], grade_all)] == [None]
    assert asked[0] > 1 and set(asked[1:]) == {1} and len(asked) == 1 + asked[0]


def test_the_order_holds_where_only_some_need_the_grader(pool):
    answers = ["7", r"\frac{1}{2", "8", "x^2", "3 + ", "9"] * 50
    expected = [True, False, True, True, False, True] * 50
    assert [reason is None for reason in outcomes(answers, pool)] == expected


def test_a_grader_that_dies_rejects_the_row():
    with Pool(1, timeout=5, memory_mib=512) as pool:
        pool.close()
        [reason] = outcomes(["x^2"], pool)
    assert reason == "not gradable: the pool is closed"


def test_real_references_can_be_graded(data, pool):
    with (data / "competition/math500.jsonl").open(encoding="utf-8") as file:
        reasons = outcomes([json.loads(line)["answer"] for line in file], pool)
    assert sum(reason is not None for reason in reasons) <= 0.01 * len(reasons) == 5, [
        reason for reason in reasons if reason
    ]
