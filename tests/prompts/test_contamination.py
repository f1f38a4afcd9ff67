import json

import pytest
from edits import WRAPPINGS, changed_number, respelled

from kimi_plugins.prompts.contamination import Decontaminator, Evaluation

FARM = "A farmer plants 14 rows of 9 trees and loses 11 trees to frost. How many trees remain?"


def evaluation(*questions, containment=0.8):
    rows = [row if isinstance(row, dict) else {"question": row, "answer": "115"} for row in questions]
    return Evaluation.of([row | {"file": "dir/eval.jsonl", "row": n} for n, row in enumerate(rows, 1)], containment)


def test_what_matches_is_named():
    found = Decontaminator(evaluation("Nothing here", FARM))
    row = {"question": f"Problem 3. {FARM} Put your answer in \\boxed{{}}.", "answer": "115"}
    assert found(row) == (row, "as in eval.jsonl: row 2, 100% of it")
    row = {"question": FARM.replace("14", "15"), "answer": "124"}
    assert found(row) == (row, None)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_any_wrapping_of_an_evaluation_problem_is_found(wrapping):
    assert evaluation(FARM).match(wrapping.replace("{problem}", FARM), "115")


def test_an_evaluation_problem_within_a_longer_prompt_is_found():
    longer = f"Here are 2 tasks for 7 children. {FARM} If 3 more are felled, how does the farmer feel?"
    assert evaluation(FARM).match(longer)
    assert evaluation("What is 2 + 2?").match("What is 2 + 2 + 3?") is None
    assert evaluation("What is the value of the sum 2 + 2?").match("What is the value of the sum 2 + 2 * 5?") is None


def test_the_same_problem_with_another_answer_is_found():
    assert evaluation(FARM).match(FARM, "7")


def test_phrases_of_competitions_are_no_contamination():
    phrase = "can be written as $\\frac{m}{n}$, where $m$ and $n$ are relatively prime positive integers. Find $m+n$."
    found = evaluation({"question": f"A spider walks on a cube; its mean time {phrase}", "answer": "9"})
    assert found.match(f"An urn holds red and blue balls; the chance of a pair {phrase}", "7") is None
    assert found.match(f"A spider walks on a cube; its mean time {phrase}", "9")


def test_nothing_to_match():
    assert evaluation().match("a b c d e") is None
    assert evaluation("?!").match("?") is None
    with pytest.raises(ValueError, match="--containment 0"):
        evaluation(containment=0)


def rows(path, question, answer):
    with path.open(encoding="utf-8") as file:
        return [
            {"question": row[question], "answer": row[answer].rpartition("#### ")[2]} for row in map(json.loads, file)
        ]


@pytest.mark.slow
def test_real_problems(data):
    test = rows(data / "gsm8k/test.jsonl", "question", "answer")
    math = rows(data / "competition/math500.jsonl", "problem", "answer")
    found = evaluation(*test, *math)
    wrapped = [
        found.match(WRAPPINGS[n % len(WRAPPINGS)].replace("{problem}", row["question"]), row["answer"])
        for n, row in enumerate(test)
    ]
    assert sum(one is not None for one in wrapped) >= 0.97 * len(test)
    other = [found.match(text, row["answer"]) for row in math for text in respelled(row["question"])]
    assert sum(one is not None for one in other) >= 0.97 * len(other)
    changed = [found.match(text) for row in (*test, *math) if (text := changed_number(row["question"]))]
    assert sum(one is not None for one in changed) <= 0.005 * len(changed)
    train = rows(data / "gsm8k/train.jsonl", "question", "answer")[::5]
    assert sum(found.match(row["question"], row["answer"]) is not None for row in train) <= 0.001 * len(train)
