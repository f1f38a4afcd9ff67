"""The tokenizer loses nothing, and the decoder has the promised size and survives saving and loading."""

import json
import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kimi_plugins.quickstart import arithmetic
from kimi_plugins.quickstart.model import CONTEXT, SYMBOLS, build_model, build_tokenizer


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def saved(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    build_model(directory, seed=3, tie=request.param)
    return directory, request.param


def texts():
    rng = random.Random(0)
    for a, b in arithmetic.generate_problems(200, seed=0):
        yield arithmetic.prompt(a, b) + arithmetic.solution(a, b, rng)
    for _ in range(200):  # no grammar: neighbours must not merge or vanish
        yield "".join(rng.choices([*SYMBOLS, "<pad>", "<bos>", "<eos>"], k=30))


def test_round_trip_is_exact_also_after_loading(saved):
    for tokenizer in (build_tokenizer(), AutoTokenizer.from_pretrained(saved[0])):
        for text in texts():
            ids = tokenizer(text=text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_one_token_a_symbol():
    tokenizer = build_tokenizer()
    text = "47+85=\n7+5=13 check: wrong, redo\n\\boxed{132}<eos>"
    assert tokenizer.tokenize(text) == [
        *"47+85=\n7+5=13",
        " check: wrong, redo\n",
        "\\boxed{",
        *"132}",
        "<eos>",
    ]


def test_nothing_is_added_to_a_prompt():
    tokenizer = build_tokenizer()
    assert tokenizer(text="1+1=\n")["input_ids"] == tokenizer(text="1+1=\n", add_special_tokens=False)["input_ids"]


def test_unknown_text_becomes_the_unknown_token():
    tokenizer = build_tokenizer()
    assert tokenizer(text="1x1")["input_ids"][1] == tokenizer.unk_token_id


def test_special_tokens_are_distinct_and_in_the_configs(saved):
    directory, _ = saved
    tokenizer = AutoTokenizer.from_pretrained(directory)
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    assert None not in ids.values() and len(set(ids.values())) == 3
    for name in ("config.json", "generation_config.json"):
        config = json.loads((directory / name).read_text())
        assert {key: config[key] for key in ids} == ids
    assert tokenizer.eos_token == arithmetic.EOS


def test_size_and_tying(saved):
    directory, tie = saved
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert 1e6 <= sum(parameter.numel() for parameter in model.parameters()) <= 5e6
    assert model.dtype == torch.bfloat16
    assert model.config.vocab_size == len(AutoTokenizer.from_pretrained(directory))
    shared = model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert shared == tie


def test_the_longest_problem_fits_the_context():
    longest = arithmetic.prompt(999, 999) + arithmetic.solution(999, 999, random.Random(0))
    assert 2 * len(build_tokenizer()(text=longest)["input_ids"]) < CONTEXT


def test_the_seed_alone_decides_the_weights(tmp_path):
    state = torch.random.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_model(tmp_path / name, seed)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert weights["a"] == weights["b"] != weights["c"]
