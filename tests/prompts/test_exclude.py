import json
from pathlib import Path

import pytest

from kimi_plugins.prompts.exclude import reason


@pytest.mark.parametrize(
    ("question", "answer", "kind"),
    [
        ("What is 2 + 2?\nA. 3\nB. 4\nC. 5\nD. 6", "B", "multiple choice"),
        ("What is 2 + 2? (A) 3 (B) 4 (C) 5", "4", "multiple choice"),
        (r"What is it? $\textbf{(A)}\ 3 \qquad \textbf{(B)}\ 4 \qquad \textbf{(C)}\ 5$", "4", "multiple choice"),
        ("What is 2 + 2? A)3 B)4 C)5", "4", "multiple choice"),
        ("Which of the following is prime: 4, 5, 6?", "5", "multiple choice"),
        ("Pick the correct answer for 2 + 2: 3 or 4.", "4", "multiple choice"),
        ("Which is prime? (a) 4 (b) 5 (c) 6", "(B)", "multiple choice"),
        ("Mark: select all that apply", "1, 2", "multiple choice"),
        ("True or false: 7 is prime.", "1", "true/false"),
        ("Is 7 prime?", "Yes", "true/false"),
        ("Is 7 prime?", r"\text{True}", "true/false"),
        ("Statement 1 | Every field is a ring. Statement 2 | Every ring is a field.", "x", "true/false"),
        ("Prove that there are infinitely many primes.", "x", "proof"),
        ("Let n be odd. Show that n^2 - 1 is divisible by 8.", "x", "proof"),
        ("(a) Show that f is continuous. (b) Show that f(0) = 0.", "0", "proof"),
        ("Give a short proof of the theorem of Pythagoras.", "x", "proof"),
        ("Prove or disprove: every group of order 4 is abelian.", "x", "proof"),
        ("Give an example of a prime above 100.", "101", "open-ended"),
        ("What is the voltage in the circuit in the figure?", "3.45", "no figure"),
    ],
)
def test_what_is_excluded_and_why(question, answer, kind):
    assert reason(question, answer).startswith(kind + ": ")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Natalia sold 48 clips in April. How many did she sell?", "48"),
        ("Points A, B and C are on a line; f(A) = 1, f(B) = 2, f(C) = 3. Find f(A) + f(C).", "4"),
        ("A test has 10 multiple-choice questions and 20 true/false questions. How many questions has it?", "30"),
        ("(a) Find x. (b) Find y. (c) Find x + y.", "5"),
        ("She wants to show that she can run 5 miles an hour. How far does she run in 2 hours?", "10"),
        ("They watch a show that lasts 2 hours. How long are 3 such shows?", "6"),
        ("For how many integers n is it true that n^2 < 10?", "7"),
        ("In base 16, what is ten?", "A"),
        ("To choose the first option costs 5 dollars, the second 7. How much more is the second?", "2"),
        ("Vitamin C. Group A. Team B. How many words?", "6"),
        ("(a) Show that f is continuous. (b) Find f(0).", "0"),
        ("How many primes are below 10? Justify your answer.", "4"),
    ],
)
def test_what_stays(question, answer):
    assert reason(question, answer) is None


EXAMPLES = [json.loads(line) for line in Path(__file__).with_name("exclusion.jsonl").open(encoding="utf-8")]


@pytest.mark.parametrize("row", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_in_many_forms(row):
    assert (reason(row["question"], row["answer"]) is not None) == row["excluded"]


def test_a_row_with_its_image_lacks_no_figure():
    assert reason("What is x in the figure?", "3").startswith("no figure: ")
    assert reason("What is x in the figure?", "3", images=["a.png"]) is None


def test_options_in_a_column_are_enough():
    assert reason("What is 2 + 2?", "4", ["3", "4"]).startswith("multiple choice: ")
    assert reason("What is 2 + 2?", "4", []) is None


def rows(path):
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def share(reasons):
    assert len(reasons) >= 30
    return sum(reason is not None for reason in reasons) / len(reasons)


@pytest.mark.parametrize("name", ["aqua", "mmlu_stem", "sat_math"])
def test_real_multiple_choice_goes(data, name):
    found = rows(data / f"multiple_choice/{name}.jsonl")
    options = [row.get("choices") or row["options"] for row in found]
    texts = [
        option
        if isinstance(option, str)
        else "\n".join(
            text if name == "aqua" else f"{letter}. {text}" for letter, text in zip("ABCDEFG", option, strict=False)
        )
        for option in options
    ]
    assert share([reason(row["question"], "5", option) for row, option in zip(found, options, strict=True)]) >= 0.98
    assert share([reason(f"{row['question']}\n{text}", "5") for row, text in zip(found, texts, strict=True)]) >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "question"),
    [("gsm8k/train", "question"), ("gsm8k/test", "question"), ("competition/math500", "problem")],
)
def test_real_problems_stay(data, name, question):
    """Of MATH-500 six list what to choose from ("even, odd, or neither?"), one lacks its figure."""
    found = rows(data / f"{name}.jsonl")
    excluded = [row for row in found if reason(row[question], row["answer"].rpartition("#### ")[2])]
    assert len(excluded) == (7 if name.endswith("math500") else 0)
