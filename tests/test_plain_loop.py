"""The plain loop of the benchmarks: its shortcuts (cache, buckets, cut batches) change nothing."""

import random

import pytest
import torch

from kimi_plugins.quickstart.arithmetic import solution

PROBLEMS = [(12, 34), (5, 6), (123, 456), (99, 1)]


@pytest.fixture
def loop(benchmark):
    torch.manual_seed(0)
    return benchmark("plain_loop")


def decoder(loop):
    """Not trained; its logits are small enough that it writes something of everything."""
    model = loop.Decoder()
    with torch.no_grad():
        model.embed.weight *= 0.2
    return model


def sampled(loop, model, problems):
    prompts, pads = loop.prompts_of(problems)
    return *loop.generate(model, prompts, pads, torch.Generator().manual_seed(1)), pads


def test_what_is_sampled_with_the_cache_is_what_the_whole_model_would_sample(loop):
    model = decoder(loop)
    with torch.no_grad():
        model.norm.weight *= 1e4  # next to no chance for any but the most likely token
        for layer in model.layers:
            layer["down"].weight *= 4  # what comes next depends on more than the position
    tokens, mask, pads = sampled(loop, model, [(a, a + 7) for a in range(3, 120)])
    with torch.no_grad():
        best = model(tokens[:, :-1], pads).argmax(dim=-1)
    torch.testing.assert_close(tokens[:, 1:][mask[:, 1:]], best[mask[:, 1:]])
    assert len(set(mask.sum(dim=-1).tolist())) > 1  # so that the batch was cut


def test_a_response_ends_with_its_eos_or_at_the_end_of_its_room(loop):
    tokens, mask, _ = sampled(loop, decoder(loop), PROBLEMS * 64)
    prompt = loop.prompts_of(PROBLEMS)[0].shape[1]
    lengths = mask.sum(dim=-1)
    assert len(set(lengths.tolist())) > 10
    assert not mask[:, :prompt].any()
    for row, marked, length in zip(tokens.tolist(), mask.tolist(), lengths.tolist(), strict=True):
        response = row[prompt : prompt + length]
        assert marked[prompt : prompt + length] == [True] * length
        assert loop.INDEX[loop.EOS] not in response[:-1]
        assert response[-1] == loop.INDEX[loop.EOS] or length == loop.ROOM
        assert set(row[prompt + length :]) <= {loop.PAD}


def test_log_probs_in_buckets_are_those_of_the_whole_batch(loop):
    model = decoder(loop)
    tokens, mask, pads = sampled(loop, model, PROBLEMS * 32)
    with torch.no_grad():
        found = loop.log_probs(model, tokens, pads, mask)
        whole = model(tokens, pads).log_softmax(dim=-1)[:, :-1].gather(-1, tokens[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(found[mask[:, 1:]], whole[mask[:, 1:]], atol=1e-5, rtol=1e-5)


def test_only_the_right_answer_at_the_end_counts(loop):
    right = solution(12, 34, random.Random(1))
    texts = [right, right.replace("{46}", "{47}"), right.removesuffix(loop.EOS), right + "1"]
    rows = [loop.encode("12+34=\n" + text) for text in texts]
    width = max(map(len, rows))
    tokens = torch.tensor([row + [loop.PAD] * (width - len(row)) for row in rows])
    assert loop.verdicts(tokens, [(12, 34)] * 4).tolist() == [1, 0, 0, 0]


def test_an_update_raises_what_was_right(loop):
    model = decoder(loop)
    tokens, mask, pads = sampled(loop, model, PROBLEMS * 8)
    advantages = torch.where(mask.sum(dim=-1) < mask.sum(dim=-1).float().median(), 1.0, -1.0)

    def policy_gradient(new, old, advantage, mask):
        return (-(new * advantage * mask).sum() / len(new),)

    with torch.no_grad():
        before = (loop.log_probs(model, tokens, pads, mask) * mask[:, 1:]).sum(dim=-1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    moved = loop.update(model, optimizer, policy_gradient, tokens, pads, mask, advantages, 4, generator)
    with torch.no_grad():
        delta = (loop.log_probs(model, tokens, pads, mask) * mask[:, 1:]).sum(dim=-1) - before
    assert (delta * advantages).mean() > 0
    assert moved == pytest.approx(delta.abs().mean().item(), rel=1e-4)
