import json

import pytest

from kimi_plugins.grading.workers import Pool
from kimi_plugins.prompts.gradable import gradable

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
        (r"\sum_{n=1}^\infty", "not gradable: the reference cannot be read"),
        ("3 + ", "not gradable: the reference cannot be read"),
        ("x ++ = / 3)", "not gradable: the reference cannot be read"),
        ("The plane is faster because its engines burn more fuel than the car", "prose: the answer has more than 8"),
        (r"(1, \sum_{n=1}^\infty, 3)", "not gradable: the reference cannot be read"),
    ],
)
def test_references_that_cannot(pool, answer, reason):
    [found] = outcomes([answer], pool)
    assert found.startswith(reason)


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
