"""What one segment asks of the engine, and what comes back."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kimi_plugins.rollout.segments import Part, _Segment, _Unfinished, advance, seeded

LOOPS = {"max_period": 4, "min_tokens": 8, "min_count": 3}


class Engine:
    """Writes what it is told to, as vLLM returns it."""

    def __init__(self, tokens, finish, log_probs=True):
        self.tokens, self.finish, self.log_probs = tokens, finish, log_probs

    async def generate(self, prompt_token_ids, sampling_params, multi_modal_data=None):
        self.asked = (prompt_token_ids, sampling_params.max_tokens, sampling_params.min_tokens, multi_modal_data)
        places = [{token: SimpleNamespace(logprob=-token / 10), 99: None} for token in self.tokens]
        logprobs = places if self.log_probs else None
        output = SimpleNamespace(token_ids=self.tokens, logprobs=logprobs, finish_reason=self.finish)
        return SimpleNamespace(outputs=[output])


def go_on(engine, so_far, *, end=False, budget=4, max_tokens=20, min_tokens=0, repetition=None):
    part = Part(np.asarray(so_far, np.int32), None, end)
    segment = _Segment(engine, part, budget, repetition)
    params = SimpleNamespace(max_tokens=max_tokens, min_tokens=min_tokens)
    [output] = asyncio.run(segment.generate([1, 2], params, multi_modal_data={"image": "x"})).outputs
    return segment, output


def test_the_engine_goes_on_from_the_tokens_so_far():
    engine = Engine([5, 6], "stop")
    segment, output = go_on(engine, [3, 4], min_tokens=3)
    assert engine.asked == ([1, 2, 3, 4], 4, 1, {"image": "x"})
    assert output.token_ids == [3, 4, 5, 6] and output.finish_reason == "stop"
    assert segment.tokens == [5, 6] and segment.log_probs == [-0.5, -0.6]


def test_the_budget_ends_a_segment_not_the_response():
    with pytest.raises(_Unfinished) as unfinished:
        go_on(Engine([5, 6, 7, 8], "length"), [3])
    assert unfinished.value.args == ([5, 6, 7, 8], [-0.5, -0.6, -0.7, -0.8])


def test_the_longest_response_ends_where_whole_rollouts_end():
    engine = Engine([5, 6], "length")
    _, output = go_on(engine, [3, 4, 3], max_tokens=5)
    assert engine.asked[1] == 2
    assert output.token_ids == [3, 4, 3, 5, 6] and output.finish_reason == "length"


@pytest.mark.parametrize("so_far, end", [([3, 4], True), ([], True), ([3] * 20, False)])
def test_a_response_that_is_ended_asks_for_nothing(so_far, end):
    segment, output = go_on(None, so_far, end=end)
    assert output.token_ids == so_far and output.finish_reason == "length"
    assert segment.tokens == [] and segment.log_probs is None


def test_a_run_without_log_probs():
    segment, _ = go_on(Engine([5], "stop", log_probs=False), [])
    assert segment.log_probs is None


def test_a_loop_across_segments_ends_the_response():
    segment, output = go_on(Engine([6, 5, 6, 5], "length"), [9, 6, 5, 6, 5], repetition=LOOPS)
    assert output.finish_reason == "repetition" and segment.tokens == [6, 5, 6, 5]
    with pytest.raises(_Unfinished):
        go_on(Engine([6, 5, 6, 5], "length"), [9, 9, 5, 6, 4], repetition=LOOPS)


def test_seeds_go_by_trajectory_and_place():
    part = Part(np.arange(7, dtype=np.int32), 11, False)
    extra = {"position_seed": 11, "position": 7}
    assert seeded(part, {"temperature": 1.0}) == {"temperature": 0.0, "extra_args": extra}
    assert seeded(part, {"temperature": 0}) == {}
    assert seeded(Part(part.tokens, None, False), {"temperature": 1.0}) == {}


class Processor:
    """Of a VLM: counts how often it sees an image."""

    image_processor = object()

    def __init__(self):
        self.seen = 0

    def __call__(self, text, images=None, **_):
        self.seen += images is not None
        tokens = torch.tensor([[1, 8, 8, 2] if images else [1, 2]])
        pixels = {"pixel_values": torch.ones(2, 5), "attention_mask": torch.ones(1, 4)} if images else {}
        return {"input_ids": tokens} | pixels


class Executor:
    """As OpenRLHF's, as far as the processor goes."""

    async def execute(self, *, prompt, label, images, max_length, hf_tokenizer, sampling_params, llm_engine):
        assert hf_tokenizer.image_processor
        output = hf_tokenizer(text=[prompt], images=["picture"]) if images else hf_tokenizer(text=prompt)
        tokens = output["input_ids"][0].tolist()
        mm_inputs = {name: value for name, value in output.items() if name not in ("input_ids", "attention_mask")}
        sampling_params.max_tokens = max_length - len(tokens)
        got = await llm_engine.generate(tokens, sampling_params, {"image": images})
        whole = tokens + got.outputs[0].token_ids
        return {
            "observation_tokens": whole,
            "action_ranges": [(len(tokens), len(whole))],
            "rollout_log_probs": None,
            "images": images,
            "mm_train_inputs": mm_inputs or None,
            "reward": 1.0,
        }


@pytest.mark.parametrize("images", [["a.png"], None])
def test_the_processor_runs_once_a_prompt(images):
    pytest.importorskip("vllm")
    processor, engine = Processor(), Engine([5, 6], "stop")
    engine.executor = Executor()
    parts = [Part(np.empty(0, np.int32), None, False) for _ in range(3)]
    request = {"prompt": "p", "label": "l", "images": images, "max_length": 20, "hf_tokenizer": processor}
    request |= {"sampling_params": {"logprobs": 0}, "segment_tokens": 4, "repetition": None}
    results, inputs = asyncio.run(advance(engine, parts=parts, **request))
    assert processor.seen == (images is not None)
    assert all(
        result["finish"] == "stop" and set(result["response"]) == {"prompt_tokens", "reward"} for result in results
    )
    if images is None:
        assert inputs is None
        return
    assert inputs.tokens.tolist() == [[1, 8, 8, 2]] and list(inputs.tensors) == ["pixel_values"]
    again, made = asyncio.run(advance(engine, parts=parts, prompt_tokens=inputs.tokens, **request))
    assert processor.seen == 1 and made is None
    assert [result["response"] for result in again] == [result["response"] for result in results]
