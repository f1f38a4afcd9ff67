"""The long-CoT warm-up set by rejection sampling (k1.5 §2.2): only verified responses, long and unlike each other."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import yaml

from kimi_plugins.completions.forms import Form
from kimi_plugins.completions.grading import Graded, tally
from kimi_plugins.completions.prompts import Prompt
from kimi_plugins.completions.samples import Asked, as_asked
from kimi_plugins.prompts.sampled import QUESTION

SHINGLE = 3  # words


class Candidate(NamedTuple):
    """A right response. template: the name of the one that brought it about."""

    template: str
    text: str
    tokens: int


def read_templates(path: Path) -> dict[str, str]:
    """Templates by name.

    Raises:
        ValueError: it is not a YAML mapping of names to texts with {question} in them.
    """
    try:
        templates = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: no YAML: {error}") from error
    if not isinstance(templates, dict) or not templates:
        raise ValueError(f"{path}: write one template a line block, as name: |")
    for name, text in templates.items():
        if not isinstance(text, str) or QUESTION not in text:
            raise ValueError(f"{path}: the template {name} is not a text with {QUESTION} in it")
    return templates


def ask(prompts: Iterable[Prompt], templates: dict[str, str], chat: bool) -> Iterator[Asked]:
    """((prompt, name of the template), its answer, request) for every prompt and template; chat: see as_asked."""
    for prompt in prompts:
        for name, template in templates.items():
            filled = _filled(template, prompt.request.prompt)
            request = prompt.request._replace(key=f"{prompt.request.key}:{name}", prompt=filled)
            yield (prompt, name), prompt.answer, as_asked(request, chat)


def _filled(template: str, prompt: str | list[dict]) -> str | list[dict]:
    if isinstance(prompt, str):
        return template.replace(QUESTION, prompt)
    *before, last = prompt
    return [*before, last | {"content": template.replace(QUESTION, last["content"])}]


def select(
    candidates: list[Candidate], *, keep: int, min_tokens: int, max_tokens: int | None, similarity: float
) -> list[Candidate]:
    """At most `keep` of one prompt's right responses.

    Templates take turns, each with its longest response first; one that is more alike than `similarity` (see jaccard)
    to a chosen one is passed over.
    """
    fitting = [c for c in candidates if min_tokens <= c.tokens <= (max_tokens or c.tokens)]
    by_template: dict[str, list[Candidate]] = {}
    for candidate in sorted(fitting, key=lambda candidate: -candidate.tokens):
        by_template.setdefault(candidate.template, []).append(candidate)
    chosen: list[Candidate] = []
    while len(chosen) < keep and any(by_template.values()):
        for queue in by_template.values():
            unlike = None
            while queue and unlike is None:
                candidate = queue.pop(0)
                if all(jaccard(candidate.text, other.text) <= similarity for other in chosen):
                    unlike = candidate
            if unlike and len(chosen) < keep:
                chosen.append(unlike)
    return chosen


def jaccard(one: str, other: str) -> float:
    """Shared three-word shingles over all of them, in [0, 1]."""
    first, second = _shingles(one), _shingles(other)
    return len(first & second) / len(first | second) if first | second else 1.0


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+|[^\w\s]", text)
    return {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def write(
    graded: Iterator[tuple[tuple[Prompt, str], list[Graded]]],
    accepted,
    rejected,
    *,
    form: Form,
    selection: dict,
) -> Counter:
    """Write an SFT row for every response that is selected, and a row with a reason for every prompt without one.

    Args:
        graded: ((prompt, template), its responses), the templates of a prompt one after the other.
        accepted, rejected: open files, JSON lines.
        form: how rows are written.
        selection: arguments of select.

    Returns:
        the tally of all prompts, see completions.grading.tally, the tokens of the longest row, and whether
        prompts are messages.
    """
    counts: Counter = Counter()
    for prompt, parts in groupby(graded, key=lambda part: part[0][0]):
        answers = [(name, answer) for (_, name), answers in parts for answer in answers]
        right = [
            Candidate(name, answer.completion.text, answer.completion.tokens)
            for name, answer in answers
            if answer.right
        ]
        chosen = select(right, **selection)
        for candidate in chosen:
            text = form.prompt(prompt.request)
            row = {"input": text, "output": form.response(prompt.request, candidate.text), "label": prompt.answer}
            row |= {"template": candidate.template, "tokens": candidate.tokens}
            row |= {"images": prompt.request.images} if prompt.request.images else {}
            accepted.write(json.dumps(row) + "\n")
            counts["messages"] |= isinstance(text, list)
            counts["longest"] = max(counts["longest"], form.length(text) + candidate.tokens + 1)
        if not chosen:
            reason = _reason([answer for _, answer in answers], right)
            rejected.write(
                json.dumps({"row": prompt.request.key, "input": prompt.request.prompt, "reason": reason}) + "\n"
            )
        counts.update(tally([answer for _, answer in answers], len(chosen)))
    return counts


def _reason(answers: list[Graded], right: list[Candidate]) -> str:
    if not answers:
        return "the prompt does not fit the model's context"
    if right:
        return f"none of {len(right)} right responses has a length that was asked for"
    cut = sum(answer.completion.finish != "stop" for answer in answers)
    return f"none of {len(answers)} responses is right ({cut} were cut off)"
