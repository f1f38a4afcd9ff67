"""Every completion gets its own verdict, however many its prompt has."""

import pytest

from kimi_plugins.completions.grading import graded
from kimi_plugins.completions.types import Completion
from kimi_plugins.grading.workers import Pool

pytestmark = pytest.mark.slow  # starts graders, which import sympy


def completion(answer: int, finish: str = "stop") -> Completion:
    return Completion(f"\\boxed{{{answer}}}", 3, finish)


def test_verdicts_stay_with_their_completions():
    # Prompt n has n % 4 completions, of which the one numbered n % 3 is right.
    made = [(n, str(100 + n), [completion(100 + n if i == n % 3 else i) for i in range(n % 4)]) for n in range(40)]
    with Pool(2, timeout=10, memory_mib=512) as pool:
        found = list(graded(made, pool))
    assert [item for item, _ in found] == list(range(40))
    for n, answers in found:
        assert [answer.right for answer in answers] == [i == n % 3 for i in range(n % 4)]


def test_an_answer_that_was_cut_off_is_not_right():
    with Pool(1, timeout=10, memory_mib=512) as pool:
        [(_, [cut, whole, wrong])] = graded(
            [("x", "7", [completion(7, "length"), completion(7), completion(8)])], pool
        )
    assert (cut.right, whole.right, wrong.right) == (False, True, False)
    assert cut.verdict.correct is True
