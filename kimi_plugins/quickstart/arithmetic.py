r"""Long-CoT arithmetic: additions worked out column by column, from the units up, every line checked.

The problem ``347+285=`` may be answered

    7+5=13 check: wrong, redo
    7+5=12 check: ok
    4+8+1=13 check: ok
    3+2+1=6 check: ok
    \boxed{632}<eos>

where ``+1`` is the carry. Every demonstration ends in the right answer, as k1.5 §2.2 asks of the warm-up set; in some
of them a line slips, its check notices, and the line is done again (reflection). The rest of the demonstrations give
the answer at once, without any working, which so small a model can imitate but rarely gets right: what RL finds out is
that thinking pays.
"""

import json
import random
from pathlib import Path

from kimi_plugins.data.files import replacing

CHECK_OK = " check: ok\n"
CHECK_WRONG = " check: wrong, redo\n"
ANSWER_OPEN = "\\boxed{"
ANSWER_CLOSE = "}"
EOS = "<eos>"

DIGITS = (2, 3)  # of either operand
SLIP_RATE = 0.08  # chance that an attempt at a line is a slip
DIRECT_SHARE = 0.5  # of the demonstrations give the answer without any working


def generate_problems(n: int, seed: int) -> list[tuple[int, int]]:
    """n pairs of operands, no two alike even with the operands swapped; the number of digits is drawn uniformly."""
    rng = random.Random(seed)
    problems: list[tuple[int, int]] = []
    seen: set[frozenset[int]] = set()
    while len(problems) < n:
        digits = rng.choice(DIGITS)
        a, b = (rng.randrange(10 ** (digits - 1), 10**digits) for _ in range(2))
        if frozenset((a, b)) not in seen:
            seen.add(frozenset((a, b)))
            problems.append((a, b))
    return problems


def columns(a: int, b: int) -> list[tuple[int, int, int]]:
    """(digit of a, digit of b, carry in) of every column, units first; a and b have the same number of digits."""
    result = []
    carry = 0
    for x, y in zip(reversed(str(a)), reversed(str(b)), strict=True):
        result.append((int(x), int(y), carry))
        carry = (int(x) + int(y) + carry) // 10
    return result


def difficulty(a: int, b: int) -> int:
    """Columns to add plus carries to remember."""
    worked = columns(a, b)
    return len(worked) + sum(carry for _, _, carry in worked)


def solution(a: int, b: int, rng: random.Random, *, rewritten: float = 0.0) -> str:
    """The working of a + b with slips noticed and redone, if there is any, and the right final answer.

    rewritten: chance that a right line is written once more, and then again: words that do no work.
    """
    answer = f"{ANSWER_OPEN}{a + b}{ANSWER_CLOSE}{EOS}"
    if rng.random() < DIRECT_SHARE:
        return answer
    lines = []
    for x, y, carry in columns(a, b):
        left = f"{x}+{y}+1" if carry else f"{x}+{y}"
        total = x + y + carry
        while rng.random() < SLIP_RATE:
            wrong = rng.choice([value for value in range(total - 2, total + 3) if value >= 0 and value != total])
            lines.append(f"{left}={wrong}{CHECK_WRONG}")
        lines.append(f"{left}={total}{CHECK_OK}")
        while rewritten and rng.random() < rewritten:
            lines.append(lines[-1])
    return "".join(lines) + answer


def write_dataset(
    directory: Path,
    seed: int,
    *,
    warm_up: int = 4000,
    demonstrations: int = 8,
    train: int = 2048,
    held_out: int = 200,
    rewritten: float = 0.0,
) -> None:
    """Write sft.jsonl, train.jsonl and held_out.jsonl (numbers of problems), whose problems are disjoint.

    sft.jsonl has `demonstrations` rows {input, output} for every problem, see solution for `rewritten`; the others
    rows {input, label, difficulty}.
    """
    problems = generate_problems(warm_up + train + held_out, seed)
    rng = random.Random(seed)
    demonstrated = problems[:warm_up] * demonstrations
    rng.shuffle(demonstrated)
    worked = [{"input": prompt(a, b), "output": solution(a, b, rng, rewritten=rewritten)} for a, b in demonstrated]
    _write_jsonl(directory / "sft.jsonl", worked)
    for name, part in (("train", problems[warm_up : warm_up + train]), ("held_out", problems[warm_up + train :])):
        rows = [{"input": prompt(a, b), "label": str(a + b), "difficulty": difficulty(a, b)} for a, b in part]
        _write_jsonl(directory / f"{name}.jsonl", rows)


def prompt(a: int, b: int) -> str:
    return f"{a}+{b}=\n"


def _write_jsonl(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
