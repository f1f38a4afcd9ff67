"""A long thinker's additions of two digits, a short one's, and prompts to sample from.

Both work column by column as the quickstart's (kimi_plugins/quickstart/arithmetic.py). The long thinker then goes over
both columns again, up to three times, before it answers; the short one mostly answers at once.
"""

import json
import random
from pathlib import Path

from kimi_plugins.quickstart.arithmetic import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    CHECK_OK,
    CHECK_WRONG,
    EOS,
    SLIP_RATE,
    columns,
    prompt,
)

PASSES = (1, 2, 3, 4, 4)  # of the long thinker over the columns, as likely each
AT_ONCE = 0.6  # share of the short one's answers that have no working

WARM_UP, SAMPLED, TRAIN, VALID, HELD_OUT = 2700, 256, 768, 100, 200  # problems, of the 4095 there are
LONG_ROWS, SHORT_ROWS = 16_000, 1_920


def worked(a: int, b: int, rng: random.Random) -> str:
    lines = []
    for x, y, carry in columns(a, b):
        left, total = f"{x}+{y}" + ("+1" if carry else ""), x + y + carry
        while rng.random() < SLIP_RATE:
            wrong = rng.choice([value for value in range(total - 2, total + 3) if value >= 0 and value != total])
            lines.append(f"{left}={wrong}{CHECK_WRONG}")
        lines.append(f"{left}={total}{CHECK_OK}")
    return "".join(lines)


def answer(a: int, b: int) -> str:
    return f"{ANSWER_OPEN}{a + b}{ANSWER_CLOSE}{EOS}"


def long(a: int, b: int, rng: random.Random) -> str:
    return "".join(worked(a, b, rng) for _ in range(rng.choice(PASSES))) + answer(a, b)


def short(a: int, b: int, rng: random.Random) -> str:
    return ("" if rng.random() < AT_ONCE else worked(a, b, rng)) + answer(a, b)


def write(directory: Path, seed: int) -> None:
    """long.jsonl and short.jsonl for supervised fine-tuning, and prompts of which no two files share one."""
    problems = [(a, b) for a in range(10, 100) for b in range(a, 100)]
    rng = random.Random(seed)
    rng.shuffle(problems)
    problems = [(a, b) if rng.random() < 0.5 else (b, a) for a, b in problems]
    warm_up, rest = problems[:WARM_UP], problems[WARM_UP:]
    for name, solution, count in (("long", long, LONG_ROWS), ("short", short, SHORT_ROWS)):
        rng = random.Random(f"{seed} {name}")
        pairs = (rng.choice(warm_up) for _ in range(count))
        _write(directory / f"{name}.jsonl", ({"input": prompt(*p), "output": solution(*p, rng)} for p in pairs))
    for name, count in (("held_out", HELD_OUT), ("valid", VALID), ("train", TRAIN), ("sampled", SAMPLED)):
        _write(directory / f"{name}.jsonl", ({"input": prompt(*p), "label": str(sum(p))} for p in rest[:count]))
        rest = rest[count:]


def _write(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
