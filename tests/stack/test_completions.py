"""Completions by real engines, and the warm-up command on them."""

import argparse
import contextlib
import json
import string
from pathlib import Path

import pytest
import ray
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kimi_plugins.cli.warmup import add_parser
from kimi_plugins.completions import samples
from kimi_plugins.completions.engines import Engines
from kimi_plugins.completions.types import EngineOptions, Request, Sampling
from kimi_plugins.quickstart.model import CONTEXT, EOS, build_model

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]

REQUESTS = [Request(str(n), f"{n}+{n}=\n") for n in range(60)]


@pytest.fixture(scope="module", params=["tied"])
def engines(request, models):
    with Engines(EngineOptions(str(models / request.param), engines=2)) as engines:
        yield engines


def test_every_request_gets_its_completions_in_order(engines):
    sampling = Sampling(n=3, max_new_tokens=20, seed=5)
    taken = []
    found = list(engines.complete((taken.append(request.key) or request for request in REQUESTS), sampling))
    assert taken == [request.key for request in REQUESTS]
    assert [len(completions) for completions in found] == [3] * len(REQUESTS)
    assert len({completion.text for completions in found for completion in completions}) > 100
    for completions in found:
        for text, tokens, finish in completions:
            assert 1 <= tokens <= 20 and EOS not in text
            assert finish in ("stop", "length") and (finish == "stop" or tokens == 20)
    # Which engine answers depends on the place of the request, what is drawn on its key alone (up to rounding).
    alone = [completions for request in REQUESTS[1:9] for completions in engines.complete([request], sampling)]
    assert sum(one == other for one, other in zip(alone, found[1:9], strict=True)) >= 6
    assert next(engines.complete(REQUESTS[1:2], Sampling(n=3, max_new_tokens=20, seed=6))) != found[1]


def check_served(engines, model):
    """What the engines say is what transformers computes: the same log-probs, and no more likely token."""

    async def greedy(engine, *, prompts):  # pickled by value: the engine's process has no such module
        from vllm import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=12, logprobs=0, ignore_eos=True)
        outputs = [(await engine.generate(prompt, params)).outputs[0] for prompt in prompts]
        return [
            [(token, each[token].logprob) for token, each in zip(output.token_ids, output.logprobs, strict=True)]
            for output in outputs
        ]

    tokenizer = AutoTokenizer.from_pretrained(model)
    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    # Longer than a block of the prefix cache, which forgets them with the weights.
    prompts = [tokenizer(f"{n}+{n}=\n" * 60)["input_ids"][:200] for n in range(4)]
    for said in ray.get([engine.run.remote(greedy, prompts=prompts) for engine in engines._engines]):
        for prompt, found in zip(prompts, said, strict=True):
            tokens = [token for token, _ in found]
            with torch.no_grad():
                logits = reference(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
            expected = logits.log_softmax(-1)
            chosen = expected[range(len(tokens)), tokens]
            torch.testing.assert_close(torch.tensor([p for _, p in found]), chosen, atol=0.03, rtol=0)
            torch.testing.assert_close(chosen, expected.max(-1).values, atol=0.03, rtol=0)


def test_choices_are_kept_to_and_prompts_without_room_get_nothing(engines):
    asked = [*REQUESTS[:8], Request("long", "1+" * CONTEXT)]
    found = list(engines.complete(asked, Sampling(n=2, choices=("12", "7"))))
    assert found.pop() == []
    texts = {completion.text for completions in found for completion in completions}
    assert texts == {"12", "7"}


def test_more_prompts_than_a_step_prefills(engines):
    """A step takes 2,048 tokens; the prompt at which they end was cut there, and the engine died of it."""
    long = [Request(str(n), f"{n}+" * (CONTEXT // 2 // len(f"{n}+"))) for n in range(10, 74)]
    found = list(engines.complete(long, Sampling(n=2, max_new_tokens=4)))
    assert [len(completions) for completions in found] == [2] * len(long)


def test_warmup_keeps_what_is_right(engines, models, tmp_path, monkeypatch, capsys):
    """An untrained model's last symbol is now and then the digit that is asked for."""
    data = tmp_path / "prompts.jsonl"
    rows = [{"input": f"{n}+{n}=\n", "label": string.digits[n % 10]} for n in range(20)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(samples, "start_engines", lambda options, images: contextlib.nullcontext(engines))
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    words = ["warmup", data, "--model", models / "tied", "--out", tmp_path / "new" / "set", "--as-is", "--n", "24"]
    words += ["--max-new-tokens", "40", "--keep", "3", "--min-tokens", "2", "--answer-pattern", r"(.)\s*\Z"]
    args = parser.parse_args(list(map(str, words)))
    assert args.func(args) == 0, capsys.readouterr().err

    out = tmp_path / "new" / "set"
    kept = [json.loads(line) for line in (out / "warm_up.jsonl").read_text().splitlines()]
    rejected = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["prompts"] == 20 == summary["kept"] + len(rejected) and summary["responses"] == 480
    assert len(kept) == summary["rows"] > 0
    for row in kept:
        assert row["output"].endswith(row["label"] + EOS)
    assert "openrlhf sft --model.model_name_or_path" in capsys.readouterr().out

    again = args.func(args)  # nothing is asked twice
    assert again == 0 and [json.loads(line) for line in (out / "warm_up.jsonl").read_text().splitlines()] == kept
    args.temperature = 0.5
    assert args.func(args) == 2
    assert "temperature 1.0 (now 0.5)" in capsys.readouterr().err


@pytest.mark.parametrize("engines", ["tied", "untied"], indirect=True)
def test_engines_go_on_with_the_weights_of_another_model(engines, tmp_path):
    first, other = engines.model, str(tmp_path / "other")
    build_model(tmp_path / "other", seed=1, tie=Path(first).name == "tied")
    check_served(engines, first)
    engines.load(other)
    check_served(engines, other)
    with pytest.raises(AssertionError):
        check_served(engines, first)
    engines.load(first)
    check_served(engines, first)
