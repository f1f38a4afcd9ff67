"""`openrlhf kimi shortest` and `pairs`: rows for OpenRLHF's SFT and DPO trainers from graded responses."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import fmean

from kimi_plugins.completions import samples
from kimi_plugins.completions.forms import Form
from kimi_plugins.completions.grading import Graded, math_pool, tally
from kimi_plugins.completions.prompts import Prompt
from kimi_plugins.data.files import replacing
from kimi_plugins.long2short import selection


def shortest_rows(
    prompt: Prompt,
    answers: list[Graded],
    *,
    form: Form,
    ties: str,
    min_tokens: int,
    seed: int,
    weight_key: str | None,
) -> list[dict]:
    """Rows {input, output, label, tokens} for `openrlhf sft`; each stands there as often as the prompt weighs."""
    request = prompt.request
    rng = random.Random(f"{seed} {request.key}")
    rows = [
        {"input": form.prompt(request), "output": form.response(request, c.text)}
        | {"label": prompt.answer, "tokens": c.tokens}
        | ({"images": list(request.images)} if request.images else {})
        for c in selection.shortest(answers, ties=ties, min_tokens=min_tokens, rng=rng)
    ]
    return rows * _weight(prompt, weight_key)


def pair_rows(prompt: Prompt, answers: list[Graded], *, form: Form, ratio: Fraction, min_tokens: int) -> list[dict]:
    """Rows {prompt, chosen, rejected, chosen_tokens, rejected_tokens} for `openrlhf dpo`."""
    request = prompt.request
    return [
        {
            "prompt": form.prompt(request),
            "chosen": form.response(request, pair.chosen.text),
            "rejected": form.response(request, pair.rejected.text),
            "chosen_tokens": pair.chosen.tokens,
            "rejected_tokens": pair.rejected.tokens,
        }
        for pair in selection.pairs(answers, ratio=ratio, min_tokens=min_tokens)
    ]


def row_tokens(row: dict, form: Form) -> int:
    """Tokens of a row's prompt and its longest response, with an end token more."""
    prompt = row["input"] if "input" in row else row["prompt"]
    return form.length(prompt) + max(row.get(f"{name}tokens", 0) for name in ("", "chosen_", "rejected_")) + 1


def _weight(prompt: Prompt, key: str | None) -> int:
    if key is None:
        return 1
    weight = prompt.row.get(key)
    if isinstance(weight, bool) or not isinstance(weight, int) or weight < 0:
        raise ValueError(
            f"row {prompt.request.key}: {key} is {json.dumps(weight)}; --weight-key needs whole numbers ≥ 0, how "
            "often the prompt's row is written"
        )
    return weight


class Summary:
    """What the samples of all prompts gave."""

    def __init__(self) -> None:
        self.counts: Counter = Counter()
        self.reasons: Counter = Counter()
        self.tokens: list[float] = []  # mean of the right responses, of the prompts that were kept
        self.least: list[int] = []
        self.longest = 0  # tokens of a row
        self.messages = False  # whether prompts are messages

    def add(self, answers: list[Graded], rows: list[dict], min_tokens: int) -> None:
        right = [answer.completion.tokens for answer in answers if answer.right]
        self.counts.update(tally(answers, len(rows)), equal=selection.equally_long(answers))
        if rows:
            self.tokens.append(fmean(right))
            self.least.append(min(tokens for tokens in right if tokens >= min_tokens))
        else:
            self.reasons[selection.why_none(answers, min_tokens=min_tokens)] += 1

    def __str__(self) -> str:
        c = self.counts
        lines = [
            f"{c['prompts']} prompts, {c['responses']} responses: {c['right']} right, {c['failed']} grades failed",
            f"{c['rows']} rows from {c['kept']} prompts",
        ]
        if self.least:
            lines.append(
                f"tokens of their right responses {fmean(self.tokens):.1f}, of the shortest {fmean(self.least):.1f}"
            )
        if c["equal"]:
            lines.append(f"{c['equal']} prompts have right responses of one length only: the shortest is no shorter")
        lines += [f"{times} prompts gave nothing: {reason}" for reason, times in self.reasons.most_common()]
        return "\n".join(lines)


def write(
    graded: Iterable[tuple[Prompt, list[Graded]]],
    out: Path,
    rows_of: Callable[[Prompt, list[Graded]], list[dict]],
    *,
    form: Form,
    min_tokens: int,
) -> Summary:
    """Write the rows of every prompt to `out`, which appears when it is whole.

    Raises:
        ValueError: no prompt gave a row; `out` is not written.
    """
    summary = Summary()
    with replacing(out) as partial, partial.open("w", encoding="ascii") as file:
        for prompt, answers in graded:
            rows = rows_of(prompt, answers)
            file.writelines(json.dumps(row) + "\n" for row in rows)
            for row in rows:
                summary.longest = max(summary.longest, row_tokens(row, form))
                summary.messages |= not isinstance(row.get("input", row.get("prompt")), str)
            summary.add(answers, rows, min_tokens)
        if not summary.counts["rows"]:
            raise ValueError(f"nothing to write to {out}\n{summary}")
    return summary


def make(
    sampler: samples.Sampler,
    rows_of: Callable[..., list[dict]],
    out: Path,
    completions: Path,
    *,
    form: Form,
    pattern: str | None,
    min_tokens: int,
) -> Summary:
    """Sample or take up the responses in `completions`, grade them, and write their rows to `out`.

    rows_of: shortest_rows or pair_rows with its options. pattern: of the final answer.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with math_pool(pattern) as pool:
        graded = samples.graded_samples(sampler, completions, pool)
        return write(graded, out, partial(rows_of, form=form), form=form, min_tokens=min_tokens)
