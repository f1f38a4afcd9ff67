import random

import pytest

from kimi_plugins.prompts.contamination import Decontaminator, Grams, ngrams, words


def prompt(question, row=1):
    return {"question": question, "file": "dir/eval.jsonl", "row": row}


def test_what_matches_is_named():
    grams = Grams.of([prompt("Nothing here"), prompt("Tom buys 3 red apples and 4 pears.", 7)], 4)
    row, reason = Decontaminator(grams)(prompt("Yesterday Ann said: Tom BUYS 3 red, apples?"))
    assert reason == "as in eval.jsonl: row 7, “tom buys 3 red”"
    assert row["question"].startswith("Yesterday")
    assert Decontaminator(grams)(prompt("Tom buys 4 red apples"))[1] is None


def test_short_questions_match_whole():
    grams = Grams.of([prompt("What is 2 + 2?")], 10)
    assert grams.match("what is 2+2") is not None
    assert grams.match("What is 2 + 2 + 3?") is None
    assert grams.match("First: What is 2 + 2?") is None


@pytest.mark.parametrize("n", [1, 3, 8])
def test_as_brute_force(n):
    rng = random.Random(n)

    def text():
        return " ".join(rng.choices("abcdefgh", k=rng.randrange(1, 25)))

    evals = [text() for _ in range(40 if n > 1 else 1)]
    grams = Grams.of([prompt(question, row) for row, question in enumerate(evals)], n)
    sets = [set(ngrams(words(question), n)) for question in evals]
    outcomes = set()
    for question in (text() for _ in range(300)):
        own = list(ngrams(words(question), n))
        expected = [row for row, some in enumerate(sets) if some & set(own)]
        found = grams.match(question)
        outcomes.add(found is None)
        assert (found is None) == (not expected)
        if found is not None:
            gram, _, row = found
            assert gram in own and gram in sets[row]
    assert outcomes == ({True, False} if n != 1 else outcomes)


def test_nothing_to_match():
    assert Grams.of([], 5).match("a b c d e") is None
    assert Grams.of([prompt("?!")], 5).match("?") is None
    with pytest.raises(ValueError, match="--ngram 0"):
        Grams.of([], 0)


@pytest.mark.slow
def test_real_evaluation_questions_are_found_in_themselves_and_hardly_elsewhere(data):
    import json

    def questions(name):
        with (data / f"gsm8k/{name}.jsonl").open(encoding="utf-8") as file:
            return [prompt(json.loads(line)["question"]) for line in file]

    test, train = questions("test"), questions("train")
    grams = Grams.of(test, 10)
    assert all(grams.match(row["question"]) for row in test)
    assert sum(grams.match(row["question"]) is not None for row in train) < 0.005 * len(train)
