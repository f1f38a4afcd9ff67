"""How each source fares, and how texts and their images agree, from one step's metrics to the next."""

from functools import cache
from typing import NamedTuple

from kimi_plugins.groups import success_rate
from kimi_plugins.rollouts import response_tokens
from kimi_plugins.vision.consistency import Answer, agreement, answer_of, self_agreement

MOST_WAIT = 4  # steps a prompt waits for the other of its pair; answers of older policies would be compared after that


class _Half(NamedTuple):
    """One prompt of a pair, scored."""

    answers: list[Answer]
    success: float
    step: int


class Tracker:
    """Counts of the prompts scored in this process since the last call of metrics().

    The asynchronous trainer scores in another process than the one that logs: there is nothing to report there.
    """

    def __init__(self) -> None:
        self.rates: dict[str, list[float]] = {}
        self.halves: dict[tuple[str, bool], _Half] = {}  # (pair, is an image)
        self.step = 0

    def observe(self, experiences: list, index: int, sampler, args) -> None:
        """Take the k scored responses of the prompt in row `index` of the sampler's data set."""
        rate = success_rate(experiences)
        if rate is None:
            return
        source, pair, is_image = _described(sampler, index, args.data.image_key)
        if source is not None:
            self.rates.setdefault(source, []).append(rate)
        if pair is not None:
            tokenizer, pattern = _tokenizer(args.actor.model_name_or_path), args.kimi.vision.answer_pattern
            texts = [tokenizer.decode(response_tokens(e, row)) for e in experiences for row in range(len(e.sequences))]
            answers = [answer_of(text, pattern) for text in texts]
            self.halves[pair, is_image] = _Half(answers, rate, self.step)

    def metrics(self) -> dict[str, float]:
        """Metrics of the step, by name; names of pairs only when a pair is complete."""
        found = {}
        for source, rates in self.rates.items():
            found[f"kimi/source/{source}/success"] = _mean(rates)
            found[f"kimi/source/{source}/prompts"] = len(rates)
        pairs = [pair for pair, is_image in self.halves if is_image and (pair, False) in self.halves]
        both = [(self.halves.pop((pair, False)), self.halves.pop((pair, True))) for pair in pairs]
        if both:
            found["kimi/consistency_mean"] = _mean([agreement(text.answers, image.answers) for text, image in both])
            found["kimi/consistency_pairs"] = len(both)
            found["kimi/text_image_gap"] = _mean([text.success - image.success for text, image in both])
            alone = [self_agreement(half.answers) for pair in both for half in pair]
            known = [value for value in alone if value is not None]
            if len(known) == len(alone):
                found["kimi/self_consistency_mean"] = _mean(known)
        self.rates, self.step = {}, self.step + 1
        self.halves = {key: half for key, half in self.halves.items() if self.step - half.step <= MOST_WAIT}
        return found


def _described(sampler, index: int, image_key: str) -> tuple[str | None, str | None, bool]:
    """(source, pair, whether it has images) of a row; no source where the data set does not name any."""
    data = getattr(sampler, "data_source", None)
    if data is not None and hasattr(data, "datasources"):  # OpenRLHF's PromptDataset under torch's own sampler
        source = data.datasources[index]
        return (None if source == "default" else source), None, False
    if data is None:
        return None, None, False
    names = [name for name in ("datasource", "pair", image_key) if name in data.column_names]
    row = data.select_columns(names)[index] if names else {}
    return row.get("datasource"), row.get("pair"), bool(row.get(image_key))


@cache
def _tokenizer(model: str):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model, trust_remote_code=True)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


TRACKER = Tracker()
