"""Precision and recall of the loop detection on a made set: loops of period 1 to 64, near-repeats, honest repetition.

    python benchmarks/repetition.py [--cases 40] [--out FILE]

Needs no model. Every text is split into words, digits and signs, as a tokenizer would; the detector sees a response
grow token by token, as it does in a run, and fires or not.
"""

import argparse
import random
import re
import sys
from pathlib import Path

from common import RESULTS, progress, write_json

from kimi_plugins.options import Rollout
from kimi_plugins.rollout.repetition import loop_period

WORDS = "we let then so the sum of angle x y and is equal to half side area thus if hence point line value".split()
LENGTH = 1200  # tokens of a response that was not ended


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=40, help="of each kind")
    parser.add_argument("--out", type=Path, default=RESULTS / "repetition.json")
    args = parser.parse_args()
    rng = random.Random(1)
    loops = {name: measure([make(rng) for _ in range(args.cases)]) for name, make in LOOPS.items()}
    honest = {name: measure([make(rng) for _ in range(args.cases)]) for name, make in HONEST.items()}
    exact = [row for name, row in loops.items() if name in EXACT]
    fired = sum(row["fired"] for row in exact)
    wrongly = sum(row["fired"] for row in honest.values())
    result = {
        "cases_of_each_kind": args.cases,
        "recall_exact_loops": fired / sum(row["cases"] for row in exact),
        "precision": fired / (fired + wrongly),
        "loops": loops,
        "honest": honest,
    }
    write_json(args.out, result)
    progress(f"recall of exact loops {result['recall_exact_loops']:.3f}, precision {result['precision']:.3f}")
    return 0


def measure(texts: list[list[str]]) -> dict:
    """How many responses the detector ends, and how many tokens after the loop began (median)."""
    fired = [place for tokens in texts if (place := first_alarm(tokens)) is not None]
    return {
        "cases": len(texts),
        "fired": len(fired),
        "tokens_at_the_end": sorted(fired)[len(fired) // 2] if fired else None,
    }


def first_alarm(tokens: list[str]) -> int | None:
    """Number of tokens after which the detection first fires, at kimi-rollout's defaults."""
    chosen = Rollout()
    ids = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    numbers = [ids[token] for token in tokens]
    rule = {"max_period": chosen.repetition_period, "min_tokens": chosen.repetition_tokens}
    for end in range(chosen.repetition_tokens, len(numbers) + 1):
        if loop_period(numbers[:end], **rule, min_count=chosen.repetition_count):
            return end
    return None


# Made texts: lists of tokens


def split(text: str) -> list[str]:
    return re.findall(r"\d|\s*[A-Za-z]+|\s*[^\w\s]|\n", text)[:LENGTH]


def prose(rng: random.Random, words: int) -> str:
    return "".join((" " if i else "") + rng.choice(WORDS) + ("." if rng.random() < 0.1 else "") for i in range(words))


def loop(rng: random.Random, periods: range) -> list[str]:
    """Sense, then a pattern over and over."""
    period = rng.choice(periods)
    pattern = split(prose(rng, 2 * period))[:period]
    return (split(prose(rng, rng.randint(20, 200))) + pattern * LENGTH)[:LENGTH]


def near_loop(rng: random.Random, changes: float) -> list[str]:
    """A sentence over and over in which now and then a word is another one."""
    pattern = split(prose(rng, 12))
    tokens = split(prose(rng, 50))
    while len(tokens) < LENGTH:
        tokens += [rng.choice(WORDS) if rng.random() < changes else token for token in pattern]
    return tokens


def counting(rng: random.Random) -> list[str]:
    """The same sentence with a number that goes on: a loop to a reader, work in progress to a program."""
    sentence = prose(rng, 8)
    return split("".join(f"Case {n}: {sentence}\n" for n in range(1, 200)))


def table(rng: random.Random) -> list[str]:
    rows = (f"| {n} | {rng.randint(1, 99)} | {rng.randint(1, 999)} | {rng.choice('AB')} |\n" for n in range(1, 120))
    return split("| n | a | b | c |\n|---|---|---|---|\n" + "".join(rows))


def zeros_table(rng: random.Random) -> list[str]:
    """A sparse matrix: rows of zeros with a one here and there."""
    size = rng.randint(8, 14)
    rows = ([1 if i == j or rng.random() < 0.05 else 0 for j in range(size)] for i in range(size))
    return split("\n".join(" & ".join(map(str, row)) + r" \\" for row in rows))


def long_division(rng: random.Random) -> list[str]:
    divisor = rng.choice([3, 7, 11, 13, 17, 37])
    rest, text = rng.randint(1, divisor - 1), ""
    for _ in range(12):
        digit, new = divmod(10 * rest, divisor)
        text += f"{rest}0 / {divisor} = {digit}, {digit} * {divisor} = {digit * divisor}, rest {new}\n"
        rest = new
    return split(text)


def repeating_decimal(rng: random.Random) -> list[str]:
    """1/7 written out to fifty places."""
    divisor = rng.choice([3, 7, 9, 11, 13])
    return split(prose(rng, 40) + " = 0." + str(10**50 // divisor).zfill(50) + " " + prose(rng, 40))


def rule_line(rng: random.Random) -> list[str]:
    return split(prose(rng, 60) + "\n" + "-" * rng.randint(20, 100) + "\n" + prose(rng, 60))


def code(rng: random.Random) -> list[str]:
    lines = (f"    if x == {n}:\n        return {rng.randint(0, 9)}\n" for n in range(60))
    return split("def f(x):\n" + "".join(lines))


EXACT = {
    f"period {periods.start} to {periods.stop - 1}": lambda rng, periods=periods: loop(rng, periods)
    for periods in (range(1, 2), range(2, 5), range(5, 17), range(17, 33), range(33, 65))
}
LOOPS = EXACT | {
    "period 65 to 128": lambda rng: loop(rng, range(65, 129)),
    "near-loop, 1 % of the words change": lambda rng: near_loop(rng, 0.01),
    "near-loop, 5 % of the words change": lambda rng: near_loop(rng, 0.05),
}
HONEST = {
    "prose": lambda rng: split(prose(rng, 800)),
    "numbered cases": counting,
    "table": table,
    "sparse matrix": zeros_table,
    "long division": long_division,
    "repeating decimal": repeating_decimal,
    "line of dashes": rule_line,
    "code": code,
}


if __name__ == "__main__":
    sys.exit(main())
