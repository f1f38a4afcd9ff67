import random

import numpy as np
import pytest

from kimi_plugins.prompts import duplicates
from kimi_plugins.prompts.canonical import problem, shingles
from kimi_plugins.prompts.duplicates import Index, keys

WORDS = [f"word{letter}{other}" for letter in "abcdefghijklmnopqrst" for other in "abcdefghijklmnopqrst"]


def prompt(question, answer="1", **more):
    return {"question": question, "answer": answer, **more}


def twins(rows, tmp_path, similarity=0.8, size=7):
    with Index(tmp_path / "index") as index:
        index.fill(keys(rows[start : start + size]) for start in range(0, len(rows), size))
        return [None if twin is None else twin.row for twin in index.twins(similarity)]


def jaccard(one, other):
    one, other = (set(shingles(problem(text).tokens)) for text in (one, other))
    return len(one & other) / len(one | other)


def text(rng, length=40):
    return " ".join(rng.choices(WORDS, k=length))


def edited(rng, question, edits):
    words = question.split()
    for place in rng.sample(range(len(words)), edits):
        words[place] = rng.choice(WORDS)
    return " ".join(words)


def test_exact_duplicates_are_those_of_a_dictionary(tmp_path):
    rng = random.Random(1)
    rows = [prompt(f"How many is {rng.randrange(40)} + {rng.randrange(3)}?") for _ in range(500)]
    first = {}
    expected = [first.setdefault(row["question"], number) for number, row in enumerate(rows)]
    expected = [None if first == number else first for number, first in enumerate(expected)]
    assert twins(rows, tmp_path, similarity=1.0) == expected


def test_spacing_and_case_make_no_difference_and_symbols_do(tmp_path):
    rows = [
        prompt("What is x + 1 ?"),
        prompt("what is  x+1?"),
        prompt("What is x - 1?"),
        prompt("What is x + 11?"),
        prompt("What is x^2 + 1?"),
    ]
    assert twins(rows, tmp_path) == [None, 0, None, None, None]


def test_near_duplicates_are_those_of_the_exact_similarity(tmp_path):
    rng = random.Random(2)
    rows, similarities = [], []
    for _ in range(60):
        base = text(rng, 80)
        rows.append(prompt(base))
        for edits in (1, 2, 4, 10):
            rows.append(prompt(edited(rng, base, edits)))
            similarities.append((len(rows) - 1, len(rows) - 1 - (1, 2, 4, 10).index(edits) - 1))
    found = twins(rows, tmp_path)
    exact = {row: jaccard(rows[row]["question"], rows[base]["question"]) for row, base in similarities}
    # The signature's estimate has a standard deviation of 0.04: pairs far from the threshold are decided rightly.
    alike = [row for row, value in exact.items() if value > 0.9]
    different = [row for row, value in exact.items() if value < 0.6]
    assert len(alike) >= 50 and len(different) >= 50
    bases = dict(similarities)
    assert np.mean([found[row] == bases[row] for row in alike]) > 0.97
    assert [found[row] for row in different] == [None] * len(different)
    assert all(found[base] is None for base in bases.values())


def test_other_numbers_answers_or_images_are_other_problems(tmp_path):
    rng = random.Random(3)
    base = text(rng, 60)
    rows = [
        prompt(base + " costs 70 dollars"),
        prompt(base + " costs 80 dollars"),
        prompt(base + " costs 70 pounds", answer="2"),
        prompt(base + " costs 70 euros", image=["a.png"]),
        prompt(base + " costs 70 euros"),
        prompt(base + " costs 70 yen", answer="2"),
    ]
    assert jaccard(rows[0]["question"], rows[1]["question"]) > 0.9
    assert twins(rows, tmp_path) == [None, None, None, None, 0, 2]


def test_nothing_is_dropped_for_a_row_that_is_dropped_itself(tmp_path):
    rng = random.Random(4)
    chain = [text(rng, 60)]
    for _ in range(12):
        chain.append(edited(rng, chain[-1], 2))
    rows = [prompt(question) for question in chain]
    found = twins(rows, tmp_path, similarity=0.75)
    assert any(twin is not None for twin in found)
    for number, twin in enumerate(found):
        if twin is not None:
            assert found[twin] is None
            assert jaccard(rows[number]["question"], rows[twin]["question"]) > 0.6


def test_large_buckets(tmp_path):
    rows = [prompt("The very same problem about a large bucket of rows")] * 3000
    assert twins(rows, tmp_path, size=1000) == [None] + [0] * 2999


def test_contradicting_answers_are_found_in_any_wrapping(tmp_path):
    rows = [
        prompt("How many?", "3"),
        prompt("How many?", "3.0"),
        prompt("Let $x$ be it. Find the others.", "36,108"),
        prompt("Problem 4. Let x be it. Find the others.", "28,84"),
        prompt("Let $x$ be it. Find the others.", "60,60"),
        prompt("How few?", "4"),
    ]
    with Index(tmp_path / "index") as index:
        index.fill([keys(rows)])
        assert index.contradicting() == [[2, 3, 4]]
        assert [twin and (twin.row, twin.same) for twin in index.twins(0.8)][:2] == [None, (0, True)]
    assert not (tmp_path / "index").exists()


def test_nothing_is_a_twin_of_a_rejected_row(tmp_path):
    rows = [prompt("How many?"), prompt("How many?"), prompt("How many?")]
    with Index(tmp_path / "index") as index:
        index.fill([keys(rows)])
        assert [twin and twin.row for twin in index.twins(0.8, without={0})] == [None, None, None]


def test_no_rows(tmp_path):
    assert twins([], tmp_path) == []


@pytest.mark.parametrize("similarity", [0.8, 0.9])
def test_a_similar_pair_meets_in_a_band(similarity):
    meets = 1 - (1 - similarity**duplicates.ROWS) ** duplicates.BANDS
    assert meets > 0.997
    assert duplicates.ROWS * duplicates.BANDS == duplicates.PERMUTATIONS
