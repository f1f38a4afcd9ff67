"""What a run's prompts tell of its settings, as they are read: whether they fit, what is evaluated, how many steps."""

import json
import math
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from kimi_plugins.data.containers import Row
from kimi_plugins.data.shapes import Prompt
from kimi_plugins.preflight import models

MOST_CHARACTERS = 20_000_000  # of prompts that may be too long, of which tokens are counted: some 10 s


class Lengths:
    """A training.RowCheck: prompts of text that leave no room for a response; OpenRLHF cuts off their beginning.

    A chat template is not applied: the messages' own tokens are counted, so what is found is too long in any case.
    """

    def __init__(self, args: Any) -> None:
        self._args = args
        longest = args.rollout.max_new_tokens
        self._limit = args.data.max_len - (1 if longest is None else longest)
        self._rows = self._long = self._characters = 0
        self._load_tokenizer = cache(partial(model_tokenizer, args.actor.model_name_or_path))

    def row(self, option: str, row: Row, prompt: Prompt | None, problem: str | None) -> Iterator[str]:
        if option != "data.prompt_dataset" or prompt is None or prompt.images or self._characters > MOST_CHARACTERS:
            return
        texts = [message["content"] for message in prompt.messages]
        if self._args.data.input_template and not self._args.data.apply_chat_template:
            texts = [self._args.data.input_template.format(texts[0])]
        self._rows += 1
        if sum(len(text.encode(errors="replace")) for text in texts) > self._limit:  # a token has a byte, at least
            self._characters += sum(map(len, texts))
            self._long += self._tokens(texts) > self._limit
        yield from ()

    def _tokens(self, texts: list[str]) -> int:
        tokenizer = self._load_tokenizer()
        return sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts) if tokenizer else 0

    def end(self) -> Iterator[str]:
        if not self._long:
            return
        args, all_read = self._args, self._characters <= MOST_CHARACTERS
        longest = args.rollout.max_new_tokens
        room = "1" if longest is None else f"rollout.max_new_tokens {longest}"
        of = f"of {self._rows}" if all_read else f"of the first {self._rows}"
        found = (
            f"data.max_len: {args.data.max_len} − {room} leaves {self._limit} tokens for a prompt, and {self._long} "
            f"{of} have more, of which the beginning is cut off"
        )
        if self._long == self._rows and all_read:
            yield f"{found}; raise data.max_len, or lower rollout.max_new_tokens"
        else:
            print(found)


def model_tokenizer(name: str) -> Any:
    """The model's tokenizers.Tokenizer; None without a tokenizer.json that it can be made of."""
    found = models.here(name)
    path = None if found is None else found[0] / "tokenizer.json"
    if path is None or not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    if "model" not in json.loads(text):
        return None
    from tokenizers import Tokenizer

    return Tokenizer.from_str(text)


class EvaluationMetrics:
    """A training.RowCheck: a metric for the best checkpoint that no evaluation has."""

    def __init__(self, args: Any) -> None:
        self._args, self._sources = args, set[str]()

    def row(self, option: str, row: Row, prompt: Prompt | None, problem: str | None) -> Iterator[str]:
        if option == "eval.dataset" and prompt is not None:
            self._sources.add(prompt.source or "default")
        yield from ()

    def end(self) -> Iterator[str]:
        key, samples = self._args.ckpt.best_metric_key, self._args.eval.n_samples_per_prompt
        kinds = ("pass1", f"pass{samples}", "response_length_mean", "truncated_rate")
        known = [f"eval_{source}_{kind}" for source in sorted(self._sources) for kind in kinds]
        general = ["eval_response_length_mean", "eval_truncated_rate", "eval_num_samples"]
        if self._sources and key not in ("", "none", *known, *general):
            yield (
                f"ckpt.best_metric_key: {key} is no metric of eval.dataset, so no best checkpoint is saved; choose "
                f"one of {', '.join(known)}"
            )


def step_notes(args: Any, prompts: int | None) -> Iterator[str]:
    """One line for each number of steps, or of prompts, that a run on so many prompts never reaches."""
    kimi = getattr(args, "kimi", None)
    rollout, length, sampling = (getattr(kimi, name, None) for name in ("rollout", "length", "sampling"))
    if prompts is None or args.data.prompt_probs or getattr(rollout, "segment_tokens", None):  # which takes more steps
        return
    if prompts < args.rollout.batch_size:
        yield f"rollout.batch_size: {args.rollout.batch_size}: an iteration has the {prompts} prompts that there are"
    steps = math.ceil(prompts / args.rollout.batch_size) * args.train.num_episodes
    run = f"the run has {steps} step{'s' * (steps != 1)}"
    logs = args.logger.wandb.key or args.logger.tensorboard_dir
    most = [
        ("eval.steps", args.eval.steps, args.eval.dataset),
        ("ckpt.save_steps", args.ckpt.save_steps, True),
        ("logger.logging_steps", args.logger.logging_steps, logs),
    ]
    if sampling is not None:
        narrows = sampling.curriculum in ("stages", "continuous")
        most.append(("kimi.sampling.curriculum_steps", sampling.curriculum_steps, narrows))
    if falls_over := getattr(rollout, "temperature_iterations", None):
        most.append(("kimi.rollout.temperature_iterations", falls_over, True))
    for key, value, is_set in most:
        if is_set and steps < value < math.inf:
            yield f"{key}: {value} is never reached: {run}"
    if length is not None and 0 < length.weight and length.warm_up_steps >= steps:
        yield f"kimi.length.warm_up_steps: {length.warm_up_steps}: no length reward, {run}"
    if args.algo.advantage.estimator == "gae" and args.critic.freezing_steps >= steps:
        yield f"critic.freezing_steps: {args.critic.freezing_steps}: no policy is trained, {run}"
