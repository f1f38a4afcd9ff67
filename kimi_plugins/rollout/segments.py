"""One segment of each response of a group, in the engine's process.

OpenRLHF's own executor does what it does for whole rollouts: tokenises the prompt, reads images, grades. It gets a
stand-in for the engine, which goes on from the tokens so far and stops at the budget.
"""

import asyncio
import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch

from kimi_plugins.rollout.buffer import EXPIRED
from kimi_plugins.rollout.inputs import PromptInputs
from kimi_plugins.rollout.repetition import loop_period


@dataclass(frozen=True)
class Part:
    """What to go on with.

    tokens: [n] int32, so far. seed: see noise.py, or None. end: no more tokens, only grade it as cut by length.
    """

    tokens: np.ndarray
    seed: int | None
    end: bool


class _Unfinished(Exception):
    """args: the new tokens and their log-probs."""


async def advance(
    engine,
    *,
    parts: list[Part],
    sampling_params: dict,
    segment_tokens: int,
    repetition: dict | None,
    hf_tokenizer,
    prompt_tokens: torch.Tensor | None = None,
    **request,
) -> tuple[list[dict], PromptInputs | None]:
    """Let every part grow by at most segment_tokens.

    Args:
        engine: OpenRLHF's RolloutRayActor, in whose process this runs.
        parts: the unfinished responses of one prompt.
        sampling_params: of vLLM, for a whole response; max_tokens None fills the context.
        repetition: arguments of loop_period, or None.
        prompt_tokens: of the PromptInputs that an earlier call returned for this prompt.
        request: prompt, label, images, max_length, as OpenRLHF's executor takes them, and so is hf_tokenizer.

    Returns:
        one dict for each part: new "tokens", their "log_probs" or None, and "finish" and "response" as in Trajectory;
        and the prompt's inputs, if it has images and the processor ran here.
    """
    from vllm import SamplingParams

    processor = _OnceForAll(hf_tokenizer, prompt_tokens) if request.get("images") else hf_tokenizer

    async def one(part: Part) -> dict:
        stand_in = _Segment(engine, part, segment_tokens, repetition)
        params = SamplingParams(**sampling_params | seeded(part, sampling_params))
        if repetition:
            params.repetition_detection = engines_detection(**repetition)
        try:
            response = await engine.executor.execute(
                **request, hf_tokenizer=processor, sampling_params=params, llm_engine=stand_in
            )
        except _Unfinished as unfinished:
            tokens, log_probs = unfinished.args
            return {"tokens": tokens, "log_probs": log_probs, "finish": None, "response": None}
        [(start, _)] = response["action_ranges"]
        response["prompt_tokens"] = response.pop("observation_tokens")[:start]
        for name in ("action_ranges", "rollout_log_probs"):
            del response[name]
        for name in ("images", "mm_train_inputs"):  # the group has them, once
            response.pop(name, None)
        new = {"tokens": stand_in.tokens, "log_probs": stand_in.log_probs}
        return new | {"finish": EXPIRED if part.end else stand_in.finish, "response": response}

    results = await asyncio.gather(*map(one, parts))
    return results, processor.made if isinstance(processor, _OnceForAll) else None


class _OnceForAll:
    """Stands in for a VLM's processor in OpenRLHF's executor: all responses to a prompt share its output."""

    def __init__(self, processor, tokens: torch.Tensor | None) -> None:
        self._processor, self._tokens = processor, tokens
        self.made: PromptInputs | None = None

    def __getattr__(self, name: str):
        return getattr(self._processor, name)

    def __call__(self, *args, images=None, **kwargs):
        if images is None:
            return self._processor(*args, **kwargs)
        if self._tokens is None:
            output = dict(self._processor(*args, images=images, **kwargs))
            self._tokens = output.pop("input_ids")
            of_tokens = ("attention_mask", "token_type_ids", "mm_token_type_ids")  # made anew of the whole sequence
            self.made = PromptInputs(self._tokens, {name: output[name] for name in output if name not in of_tokens})
        return {"input_ids": self._tokens}


def seeded(part: Part, sampling_params: dict) -> dict:
    """Sampling parameters that draw each token by the trajectory's seed and the token's position in it."""
    if part.seed is None or sampling_params["temperature"] == 0:
        return {}
    return {"temperature": 0.0, "extra_args": {"position_seed": part.seed, "position": len(part.tokens)}}


def engines_detection(*, max_period: int, min_tokens: int, min_count: int):
    """The part of loop_period's rule that vLLM checks at every token: periods with min_count repeats in min_tokens."""
    from vllm.sampling_params import RepetitionDetectionParams

    shortest = math.ceil(min_tokens / min_count)
    if shortest > max_period:
        return None
    return RepetitionDetectionParams(max_pattern_size=max_period, min_pattern_size=shortest, min_count=min_count)


class _Segment:
    """Stands in for the engine in OpenRLHF's executor."""

    def __init__(self, engine, part: Part, segment_tokens: int, repetition: dict | None) -> None:
        self._engine = engine
        self._so_far = part.tokens.tolist()
        self._end = part.end
        self._segment_tokens = segment_tokens
        self._repetition = repetition
        self.tokens: list[int] = []  # the new ones
        self.log_probs: list[float] | None = None
        self.finish = "length"

    async def generate(self, prompt_token_ids, sampling_params, multi_modal_data=None):
        """The whole response as vLLM would return it, without log-probs; _Unfinished if the budget ends it."""
        room = sampling_params.max_tokens - len(self._so_far)
        if not self._end and room > 0:
            sampling_params.max_tokens = min(room, self._segment_tokens)
            sampling_params.min_tokens = max(0, sampling_params.min_tokens - len(self._so_far))
            output = await self._engine.generate(prompt_token_ids + self._so_far, sampling_params, multi_modal_data)
            self._take(output.outputs[0], room)
        tokens = self._so_far + self.tokens
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=tokens, logprobs=None, finish_reason=self.finish)])

    def _take(self, output, room: int) -> None:
        self.tokens = list(output.token_ids)
        if output.logprobs is not None:
            self.log_probs = [known[token].logprob for token, known in zip(self.tokens, output.logprobs, strict=True)]
        self.finish = output.finish_reason
        if self.finish == "length" and self._repetition:
            # vLLM sees only what it wrote in this segment.
            if loop_period(self._so_far + self.tokens, **self._repetition):
                self.finish = "repetition"
        if self.finish == "length" and len(self.tokens) < room:
            raise _Unfinished(self.tokens, self.log_probs)
