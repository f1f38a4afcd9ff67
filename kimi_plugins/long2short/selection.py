"""What is learnt from n responses to a prompt: the shortest right one, or pairs with it on the better side (§2.4).

A right response ended by itself and has the right answer. Lengths are in tokens.
"""

import random
from fractions import Fraction
from typing import NamedTuple

from kimi_plugins.completions.grading import Graded
from kimi_plugins.completions.types import Completion

UNANSWERED = "the prompt fills the model's context"
UNGRADED = "no response could be graded"
NONE_RIGHT = "no response is right"
TOO_SHORT = "no right response is as long as --min-tokens"
NO_WORSE = "nothing to prefer it to: no response is wrong and longer, or right and longer by --ratio"


class Pair(NamedTuple):
    chosen: Completion
    rejected: Completion


def shortest(answers: list[Graded], *, ties: str, min_tokens: int, rng: random.Random) -> list[Completion]:
    """The shortest right response (§2.4: of n = 8); none if none is right.

    Args:
        ties: of several with as few tokens: the first, a random one, or all that read differently.
        min_tokens: shorter ones, lucky guesses perhaps, are passed over.
    """
    right = [answer.completion for answer in answers if answer.right and answer.completion.tokens >= min_tokens]
    least = min((completion.tokens for completion in right), default=0)
    tied = list({c.text: c for c in right if c.tokens == least}.values())
    if ties == "random" and tied:
        return [rng.choice(tied)]
    return tied if ties == "all" else tied[:1]


def pairs(answers: list[Graded], *, ratio: Fraction, min_tokens: int) -> list[Pair]:
    """The shortest right response before each that is wrong and longer, or right and ≥ ratio times as long (§2.4).

    Responses whose grade failed are in no pair, and equal texts in one.
    """
    best = shortest(answers, ties="first", min_tokens=min_tokens, rng=random.Random())
    if not best:
        return []
    [chosen] = best
    rejected: dict[str, Completion] = {}
    for answer in answers:
        tokens = answer.completion.tokens
        if answer.right:
            worse = tokens >= ratio * chosen.tokens and tokens > chosen.tokens
        else:
            worse = answer.verdict.correct is not None and tokens > chosen.tokens
        if worse:
            rejected.setdefault(answer.completion.text, answer.completion)
    rejected.pop(chosen.text, None)  # cut off just after its answer, say
    return [Pair(chosen, completion) for completion in rejected.values()]


def why_none(answers: list[Graded], *, min_tokens: int) -> str:
    """Why a prompt gave nothing, in one of the phrases above."""
    if not answers:
        return UNANSWERED
    if all(answer.verdict.correct is None for answer in answers):
        return UNGRADED
    right = [answer.completion.tokens for answer in answers if answer.right]
    if not right:
        return NONE_RIGHT
    return TOO_SHORT if max(right) < min_tokens else NO_WORSE


def equally_long(answers: list[Graded]) -> bool:
    """Whether all right responses, at least two, have one length: the shortest is then no shorter than usual."""
    lengths = [answer.completion.tokens for answer in answers if answer.right]
    return len(lengths) > 1 and len(set(lengths)) == 1
