"""`openrlhf kimi shortest` and `pairs`: rows for OpenRLHF's SFT and DPO trainers from graded responses."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean

from kimi_plugins.completions import samples
from kimi_plugins.completions.grading import Graded, math_pool, tally
from kimi_plugins.completions.prompts import Prompt
from kimi_plugins.data.files import replacing
from kimi_plugins.long2short import selection


def shortest_rows(
    prompt: Prompt,
    answers: list[Graded],
    *,
    chat: bool,
    end: str,
    ties: str,
    min_tokens: int,
    seed: int,
    weight_key: str | None,
) -> list[dict]:
    """Rows {input, output, label, tokens} for `openrlhf sft`; each stands there as often as the prompt weighs."""
    request = samples.as_asked(prompt.request, chat)
    rng = random.Random(f"{seed} {request.key}")
    chosen = selection.shortest(answers, ties=ties, min_tokens=min_tokens, rng=rng)
    written = samples.messages(request.prompt, chat)
    rows = [
        {"input": request.prompt, "output": samples.response(c.text, chat=written, end=end)}
        | {"label": prompt.answer, "tokens": c.tokens}
        | ({"images": list(request.images)} if request.images else {})
        for c in chosen
    ]
    return rows * _weight(prompt, weight_key)


def pair_rows(
    prompt: Prompt, answers: list[Graded], *, chat: bool, end: str, ratio: float, min_tokens: int
) -> list[dict]:
    """Rows {prompt, chosen, rejected, chosen_tokens, rejected_tokens} for `openrlhf dpo`."""
    request = samples.as_asked(prompt.request, chat)
    written = samples.messages(request.prompt, chat)
    return [
        {
            "prompt": request.prompt,
            "chosen": samples.response(pair.chosen.text, chat=written, end=end),
            "rejected": samples.response(pair.rejected.text, chat=written, end=end),
            "chosen_tokens": pair.chosen.tokens,
            "rejected_tokens": pair.rejected.tokens,
        }
        for pair in selection.pairs(answers, ratio=ratio, min_tokens=min_tokens)
    ]


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
    pattern: str | None,
    min_tokens: int,
) -> Summary:
    """Sample or take up the responses in `completions`, grade them, and write their rows to `out`.

    rows_of: shortest_rows or pair_rows with its options. pattern: of the final answer.
    """
    from kimi_plugins.completions.engines import eos_token

    out.parent.mkdir(parents=True, exist_ok=True)
    with math_pool(pattern) as pool:
        end = eos_token(sampler.engines.model)
        return write(
            samples.graded_samples(sampler, completions, pool),
            out,
            lambda prompt, answers: rows_of(prompt, answers, chat=sampler.chat, end=end),
            min_tokens=min_tokens,
        )
