import math

import pytest

from kimi_plugins.completions.types import Completion
from kimi_plugins.grading.math.grade import grade
from kimi_plugins.grading.verdict import Kind, Verdict
from kimi_plugins.prompts import sampled
from kimi_plugins.prompts.pipeline import encoded
from kimi_plugins.prompts.sampled import GUESS, SOLVE, Z, difficulty, guessed, guesses, wilson
from kimi_plugins.prompts.tags import CHOICES, tagged_by_model


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 10), (5, 10), (9, 10), (10, 10), (1, 1), (37, 200)])
def test_wilson_is_where_the_rate_is_z_deviations_off(successes, n):
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    for bound in (low, high):
        # Wilson's interval: all p with |rate − p| ≤ z √(p (1 − p) / n).
        distance = abs(successes / n - bound)
        assert math.isclose(distance, Z * math.sqrt(bound * (1 - bound) / n), abs_tol=1e-9)


def rows_file(tmp_path, rows):
    rows = [{"file": "a.jsonl", "row": number, "source": "a", **row} for number, row in enumerate(rows, 1)]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(map(encoded, rows)))
    return path


def grade_all(pairs):
    return (grade(*pair) for pair in pairs)


def fake(texts, seen=None):
    """complete() that answers with texts[number of the request]."""

    def complete(requests):
        for request, some in zip(requests, texts, strict=True):
            if seen is not None:
                seen.append(request)
            yield [Completion(text, 3, "stop") for text in some]

    return complete


def run_difficulty(path, complete, grade_all=grade_all, chat=True, trivial=1.0):
    return list(difficulty(path, complete, grade_all, template=SOLVE, chat=chat, trivial=trivial))


def test_the_pass_rate_is_the_share_of_right_responses(tmp_path):
    path = rows_file(
        tmp_path,
        [
            {"question": "2 + {2}?", "answer": "4", "difficulty": 3.0},
            {"question": "trivial", "answer": "1"},
            {"question": "hard", "answer": "1"},
            {"question": "long", "answer": "1"},
        ],
    )
    seen = []
    right, wrong = r"so \boxed{4}", r"so \boxed{5}"
    texts = [[right] * 3 + [wrong] * 6 + ["I cannot help with that."], [r"\boxed{1}"] * 10, [""] * 10, []]
    found = run_difficulty(path, fake(texts, seen))
    (first, kept), (_, trivial), (hard, also_kept), (_, too_long) = found
    assert (kept, also_kept) == (None, None)
    assert trivial == "trivial: 10 of 10 right"
    assert too_long.startswith("too long: ")
    assert (first["pass_rate"], first["difficulty"], first["tries"], first["given_difficulty"]) == (0.3, 0.7, 10, "3")
    assert (first["pass_rate_low"], first["pass_rate_high"]) == tuple(round(bound, 4) for bound in wilson(3, 10))
    assert (hard["pass_rate"], hard["difficulty"]) == (0.0, 1.0)
    assert seen[0].key == "a.jsonl:1"
    assert seen[0].prompt[0]["content"].startswith("2 + {2}?\n")


def test_a_lower_limit_of_what_is_trivial(tmp_path):
    path = rows_file(tmp_path, [{"question": "a", "answer": "1"}, {"question": "b", "answer": "1"}])
    texts = [[r"\boxed{1}"] * 4 + ["x"], [r"\boxed{1}"] * 3 + ["x"] * 2]
    assert [reason for _, reason in run_difficulty(path, fake(texts), trivial=0.8)] == ["trivial: 4 of 5 right", None]


def test_failed_grades_are_no_wrong_answers(tmp_path):
    path = rows_file(tmp_path, [{"question": "a", "answer": "1"}, {"question": "b", "answer": "1"}])
    verdicts = iter(
        [
            Verdict(Kind.RIGHT, ""),
            Verdict(Kind.FAILED, "timed out"),
            Verdict(Kind.WRONG, ""),
            *[Verdict(Kind.FAILED, "died")] * 3,
        ]
    )
    found = run_difficulty(path, fake([["x"] * 3] * 2), lambda pairs: (next(verdicts) for _ in pairs))
    assert (found[0][0]["pass_rate"], found[0][0]["tries"]) == (0.5, 2)
    assert found[1][1] == "not graded: died"


def test_text_and_images_reach_the_model(tmp_path):
    path = rows_file(tmp_path, [{"question": "<image>\nHow many?", "answer": "1", "image": ["/a.png"]}])
    seen = []
    run_difficulty(path, fake([["x"]], seen), chat=False)
    assert seen[0].prompt.startswith("<image>\nHow many?\n")
    assert seen[0].images == ("/a.png",)


@pytest.mark.parametrize(
    ("text", "reference", "hit"),
    [
        ("18", "18", True),
        ("The answer is 18 ducks.", "18", True),
        ("$18", "18", True),
        ("Answer: 1,800\nbecause 18 times 100 is", "1800", True),
        (r"\boxed{\frac{1}{2}}", "0.5", True),
        (r"\frac{1}{2}", "0.5", True),
        ("Tuesday", "Tuesday", True),
        ("17", "18", False),
        ("18 or 19", "18", False),
        ("16 - 3 =\n13, and so 18", "18", False),
        ("", "18", False),
        ("I cannot guess.", "18", False),
        ("<think>18", "18", False),
        (r"} \boxed{", "18", False),
    ],
)
def test_what_counts_as_a_right_guess(text, reference, hit):
    assert any(grade(response, reference).correct for response in guesses(text, reference)) is hit


def test_any_hit_drops_a_prompt(tmp_path):
    path = rows_file(tmp_path, [{"question": str(row), "answer": "18"} for row in range(3)])
    texts = [["1"] * 7 + ["18"], ["1"] * 8, []]
    found = list(guessed(path, fake(texts), grade_all, template=GUESS, chat=True))
    assert [reason for _, reason in found][:2] == ["guessed: 1 of 8 guesses right", None]
    assert found[2][1].startswith("too long: ")


def test_more_rows_than_are_graded_at_once(tmp_path):
    count = 2 * sampled.GRADED_AT_ONCE + 5
    path = rows_file(tmp_path, [{"question": str(row), "answer": str(row)} for row in range(count)])
    texts = [[str(row if row % 3 else -1)] for row in range(count)]
    found = list(guessed(path, fake(texts), grade_all, template=GUESS, chat=True))
    assert [row["question"] for row, _ in found] == [str(row) for row in range(count)]
    assert [reason is None for _, reason in found] == [row % 3 == 0 for row in range(count)]


def test_the_model_chooses_the_discipline(tmp_path):
    path = rows_file(
        tmp_path,
        [
            {"question": "x", "answer": "1"},
            {"question": "x", "answer": "1", "discipline": "Knots"},
            {"question": "How many apples has Ann in total?", "answer": "1"},
        ],
    )
    found = list(tagged_by_model(path, fake([["geometry"], ["algebra"], []]), chat=True))
    tags = [(row["domain"], row["discipline"]) for row, _ in found]
    assert tags == [("mathematics", "geometry"), ("other", "Knots"), ("mathematics", "word problems")]
    assert "geometry" in CHOICES
