"""The arithmetic behind docs/long_context.md and its recipe, by second methods; and how figures are put together."""

from pathlib import Path

import pytest
import torch
from openrlhf.cli.config import read_yaml
from transformers import Qwen2Config, Qwen2ForCausalLM

ROOT = Path(__file__).parents[1]
SMALL = dict(vocab_size=97, hidden_size=64, intermediate_size=160, num_attention_heads=4, num_key_value_heads=2)


def test_parameters_are_those_of_the_model(benchmark):
    shape = benchmark("long_memory").QWEN2_7B
    with torch.device("meta"):
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=shape.vocabulary,
                hidden_size=shape.hidden,
                intermediate_size=shape.intermediate,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.kv_heads,
                tie_word_embeddings=False,
            )
        )
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_what_a_layer_saves_is_what_autograd_saves(benchmark):
    """All tensors that autograd keeps of a layer's forward pass, storages counted once, without weights and masks."""
    memory = benchmark("long_memory")
    config = Qwen2Config(**SMALL, num_hidden_layers=1, use_cache=False, attn_implementation="sdpa")
    model = Qwen2ForCausalLM(config).to(torch.bfloat16).model
    tokens = 256
    kept: dict[int, int] = {}

    def keep(tensor):
        if tensor.is_floating_point():
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    hidden = torch.randn(1, tokens, config.hidden_size, dtype=torch.bfloat16, requires_grad=True)
    rope = model.rotary_emb(hidden, torch.arange(tokens)[None])
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.layers[0](hidden, position_embeddings=rope)
    ropes = {part.untyped_storage().data_ptr() for part in rope}
    measured = sum(size for place, size in kept.items() if place not in weights | ropes) / tokens
    assert output.shape == hidden.shape
    shape = memory.Shape(1, 64, 160, 4, 2, 16, 97)
    assert memory.saved_of_layer(shape) == pytest.approx(measured, rel=0.1)


def test_ring_attention_divides_what_grows_with_the_sample(benchmark):
    memory = benchmark("long_memory")
    alone, shared = (memory.memory(memory.QWEN2_7B, 2**17, gpus=8, ring=ring) for ring in (1, 4))
    for name in ("checkpoints", "a layer", "log-probs by whole logits"):
        assert shared[name] == alone[name] / 4
    for name in ("weights", "gradients", "optimizer", "gathered", "log-probs", "KV cache"):
        assert shared[name] == alone[name]


def test_the_table_of_the_documentation_is_the_arithmetic(benchmark):
    text = (ROOT / "docs/long_context.md").read_text()
    assert "\n".join(benchmark("long_memory").table()) in text


def test_the_recipe_fits_by_arithmetic(benchmark):
    """With 16 GiB left for what is not counted."""
    memory = benchmark("long_memory")
    found, problems = read_yaml(ROOT / "configs/k15_7b_128k_8gpu.yaml")
    recipe = {key: setting.node.value for key, setting in found.items()}
    assert problems == []
    ring, tokens = int(recipe["ds.ring_attn_size"]), int(recipe["data.max_len"])
    assert tokens == 131072 and int(recipe["train.max_tokens_per_gpu"]) * ring >= tokens
    chunk = int(recipe["ds.logits_chunk_size"])
    assert memory.memory(memory.QWEN2_7B, tokens, gpus=8, ring=ring, chunk=chunk)["sum"] < 80e9 / 2**30 - 16
    segment, longest = int(recipe["kimi.rollout.segment_tokens"]), int(recipe["rollout.max_new_tokens"])
    assert int(recipe["kimi.rollout.max_age"]) * segment >= longest


def test_whole_logits_beyond_the_machine_are_on_a_line(benchmark):
    module = benchmark("long_context")
    unmeasured = 3.1 * 151_936 * 4 / 2**20  # a token
    assert module.by_arithmetic([], 1000) == pytest.approx(1000 * unmeasured)
    rows = [
        {"tokens": tokens, "whole_by_arithmetic": False, "whole": {"mib": {"median": 100 + 2 * tokens}}}
        for tokens in (4000, 1000, 2000)
    ]
    assert module.by_arithmetic(rows[:1], 5000) == pytest.approx(8100 + 1000 * unmeasured)
    rows[1]["whole"]["mib"]["median"] = 0  # the shortest of three does not count
    rows.append({"tokens": 8000, "whole_by_arithmetic": True, "whole": {"mib": 1.0}})
    assert module.by_arithmetic(rows, 16000) == pytest.approx(32_100)


def test_gaps_are_averaged_by_length(benchmark):
    found = benchmark("long_run").gaps([(1, 1.0), (7, 3.0), (8, 5.0), (600, 7.0)])
    assert [(row["tokens"], row["responses"], row["mean"]) for row in found] == [
        ([1, 7], 2, 2.0),
        ([8, 63], 1, 5.0),
        ([512, 4095], 1, 7.0),
    ]
