"""Which responses are learnt from, against brute force and by hand."""

import itertools
import random
from fractions import Fraction

import pytest

from kimi_plugins.completions.grading import Graded
from kimi_plugins.completions.types import Completion
from kimi_plugins.grading.verdict import Kind, Verdict
from kimi_plugins.long2short import selection
from kimi_plugins.long2short.balance import Point, choose, on_front

KINDS = {"right": (True, "stop"), "wrong": (False, "stop"), "cut": (True, "length"), "failed": (None, "stop")}


def answer(kind, tokens, text=None):
    correct, finish = KINDS[kind]
    return Graded(Completion(text or f"{kind} {tokens}", tokens, finish), Verdict(Kind.of(correct), "made"))


def shortest(answers, ties="first", min_tokens=0, seed=0):
    return selection.shortest(answers, ties=ties, min_tokens=min_tokens, rng=random.Random(seed))


def pairs(answers, ratio="1.5", min_tokens=0):
    return selection.pairs(answers, ratio=Fraction(ratio), min_tokens=min_tokens)


def test_the_shortest_right_one_is_taken():
    answers = [answer("wrong", 2), answer("right", 9), answer("cut", 3), answer("right", 5), answer("failed", 1)]
    assert shortest(answers) == [answers[3].completion]
    assert shortest(answers, min_tokens=6) == [answers[1].completion]
    assert shortest(answers, min_tokens=10) == []
    assert shortest([answer("wrong", 3)]) == shortest([]) == []


def test_ties():
    answers = [answer("right", 4, text) for text in "abcb"] + [answer("right", 5)]
    assert [c.text for c in shortest(answers)] == ["a"]
    assert [c.text for c in shortest(answers, ties="all")] == ["a", "b", "c"]
    drawn = {shortest(answers, ties="random", seed=seed)[0].text for seed in range(50)}
    assert drawn == {"a", "b", "c"}
    assert shortest(answers, ties="random", seed=7) == shortest(answers, ties="random", seed=7)


def test_pairs_by_hand():
    answers = [
        answer("right", 10),
        answer("right", 14),  # less than half as long again
        answer("right", 15),
        answer("wrong", 11),
        answer("wrong", 10),  # no longer
        answer("wrong", 4),
        answer("failed", 40),  # says nothing
        answer("cut", 64),
    ]
    found = pairs(answers)
    assert {pair.chosen.text for pair in found} == {"right 10"}
    assert [pair.rejected.text for pair in found] == ["right 15", "wrong 11", "cut 64"]
    assert [pair.rejected.text for pair in pairs(answers, ratio="1.1")] == [
        "right 14",
        "right 15",
        "wrong 11",
        "cut 64",
    ]
    assert [pair.rejected.text for pair in pairs(answers, min_tokens=12)] == ["cut 64"]


def test_pairs_against_the_rule_for_all_small_groups():
    made = 0
    everything = [answer(kind, tokens) for kind in KINDS for tokens in (2, 3, 4)]
    for answers in itertools.combinations(everything, 4):
        found = pairs(list(answers))
        right = [a.completion.tokens for a in answers if a.right]
        expected = set()
        if right:
            least = min(right)
            for a in answers:
                wrong = not a.right and a.verdict.correct is not None
                if (wrong and a.completion.tokens > least) or (a.right and a.completion.tokens >= 1.5 * least):
                    expected.add(a.completion)
        assert {pair.rejected for pair in found} == expected
        assert all(pair.chosen.tokens == min(right) for pair in found)
        made += len(found)
    assert made > 100


def test_equal_texts_make_one_pair_and_none_with_themselves():
    answers = [answer("right", 4, "a"), answer("wrong", 9, "b"), answer("wrong", 9, "b"), answer("cut", 5, "a")]
    assert [(pair.chosen.text, pair.rejected.text) for pair in pairs(answers)] == [("a", "b")]


@pytest.mark.parametrize(
    "answers, min_tokens, reason",
    [
        ([], 0, selection.UNANSWERED),
        ([answer("failed", 3)], 0, selection.UNGRADED),
        ([answer("wrong", 3), answer("cut", 3)], 0, selection.NONE_RIGHT),
        ([answer("right", 3), answer("wrong", 9)], 4, selection.TOO_SHORT),
        ([answer("right", 3), answer("right", 3)], 0, selection.NO_WORSE),
    ],
)
def test_why_a_prompt_gives_nothing(answers, min_tokens, reason):
    assert selection.why_none(answers, min_tokens=min_tokens) == reason


def test_right_responses_of_one_length():
    assert selection.equally_long([answer("right", 3), answer("right", 3, "other"), answer("wrong", 5)])
    assert not selection.equally_long([answer("right", 3), answer("right", 4)])
    assert not selection.equally_long([answer("right", 3), answer("wrong", 3)])


def test_the_front_and_the_choice_against_brute_force():
    rng = random.Random(0)
    for _ in range(300):
        points = [Point(str(i), rng.randrange(8) / 10, rng.randrange(1, 9)) for i in range(rng.randrange(1, 8))]
        better = [
            [q for q in points if q.accuracy >= p.accuracy and q.tokens <= p.tokens and q[1:] != p[1:]] for p in points
        ]
        assert on_front(points) == [not found for found in better]
        within = rng.choice([0, 0.1, 0.25])
        chosen = choose(points, within)
        best = max(p.accuracy for p in points)
        near = [p for p in points if best - p.accuracy <= within + 1e-9]
        assert chosen in near and chosen.tokens == min(p.tokens for p in near)
        assert on_front(points)[points.index(chosen)]
