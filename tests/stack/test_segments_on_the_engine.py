"""On a real vLLM engine: a response cut anywhere is the response generated in one go."""

import itertools
import random

import numpy as np
import pytest
import ray
import torch
from real_engine import start_engine

from kimi_plugins.policy.mirror_descent import MirrorDescentLoss
from kimi_plugins.quickstart.model import build_tokenizer
from kimi_plugins.rollout.buffer import EXPIRED, Trajectory
from kimi_plugins.rollout.segments import Part, advance

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]

PROMPT, LONGEST, RESPONSES = "12+34=\n", 60, 24
LOOPS = {"max_period": 16, "min_tokens": 24, "min_count": 3}
REWARD = """
def reward_func(queries, prompts, labels):
    return {"rewards": float(len(queries[0])), "scores": float(len(queries[0]))}
"""


@pytest.fixture(scope="module")
def grow(models, tmp_path_factory):
    """Call advance() in the process of an engine with an untrained model."""
    reward = tmp_path_factory.mktemp("reward") / "reward.py"
    reward.write_text(REWARD)
    engine = start_engine(
        models / "tied",
        reward=reward,
        logits_processors=["kimi_plugins.rollout.noise:PlacedNoise"],
        logprobs_mode="raw_logprobs",
    )

    def grow(parts, budget, *, temperature=1.0, repetition=None, longest=LONGEST):
        params = {"temperature": temperature, "max_tokens": longest, "min_tokens": 0, "logprobs": 1}
        request = {"prompt": PROMPT, "label": "46", "images": None, "max_length": 96}
        call = engine.run.remote(
            advance,
            parts=parts,
            sampling_params=params | {"skip_special_tokens": False},
            segment_tokens=budget,
            repetition=repetition,
            hf_tokenizer=build_tokenizer(),
            **request,
        )
        results, _ = ray.get(call)  # no images, no inputs
        return results

    yield grow
    ray.shutdown()


def generate(grow, seeds, budgets, **kwargs) -> list[Trajectory]:
    """Responses that grow by the next of `budgets` each time, until all are finished."""
    trajectories = [Trajectory(seed=seed) for seed in seeds]
    while unfinished := [trajectory for trajectory in trajectories if not trajectory.finish]:
        parts = [Part(trajectory.tokens, trajectory.seed, False) for trajectory in unfinished]
        budget = next(budgets)
        for trajectory, result in zip(unfinished, grow(parts, budget, **kwargs), strict=True):
            assert len(result["tokens"]) <= budget
            trajectory.extend(result["tokens"], result["log_probs"], version=len(trajectory.segments))
            trajectory.finish, trajectory.response = result["finish"], result["response"]
    return trajectories


@pytest.mark.parametrize("temperature", [0, 1.0], ids=["greedy", "seeded"])
def test_a_cut_response_is_the_whole_one(grow, temperature):
    seeds = range(1000, 1000 + RESPONSES)
    whole = generate(grow, seeds, iter([LONGEST]), temperature=temperature)
    rng = random.Random(0)
    cut = generate(grow, seeds, iter(lambda: rng.randint(1, 12), None), temperature=temperature)

    assert {trajectory.finish for trajectory in whole} <= {"stop", "length"}
    if temperature:
        assert len({tuple(trajectory.tokens) for trajectory in whole}) == RESPONSES
    for one, other in zip(whole, cut, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist() and one.finish == other.finish
        assert len(one.segments) == 1
        # One is a decode step, the other a prefill: equal up to rounding in bfloat16.
        np.testing.assert_allclose(one.log_probs, other.log_probs, atol=0.01)
        assert one.response == other.response
        assert one.response["reward"] == len(PROMPT) + len(build_tokenizer().decode(one.tokens))
    assert max(len(trajectory.segments) for trajectory in cut) > 4
    assert torch.equal(*(gradient(trajectories) for trajectories in (whole, cut)))


def gradient(trajectories) -> torch.Tensor:
    """Of the mirror-descent loss, for a policy that gives every token of the vocabulary a log-prob of its own."""
    length = max(len(trajectory.tokens) for trajectory in trajectories)
    tokens = torch.zeros(len(trajectories), length, dtype=torch.long)
    mask = torch.zeros(len(trajectories), length, dtype=torch.bool)
    for row, trajectory in enumerate(trajectories):
        tokens[row, : len(trajectory.tokens)] = torch.from_numpy(trajectory.tokens).long()
        mask[row, : len(trajectory.tokens)] = True
    logits = torch.linspace(-1, 1, 64, requires_grad=True)
    log_probs = logits.log_softmax(-1)[tokens]  # [B, A]
    rewards = torch.tensor([trajectory.response["reward"] for trajectory in trajectories])
    advantages = (rewards - rewards.mean())[:, None].expand_as(log_probs)
    loss = MirrorDescentLoss(tau=0.1, max_log_ratio=100.0, log_ratio="sequence", token_level_loss=True)
    loss(log_probs, log_probs.detach() - 0.1, advantages, mask)[0].backward()
    return logits.grad


def test_seeded_tokens_are_drawn_from_the_policy(grow):
    """The first token of many responses, against the policy's own probabilities: chi-square."""
    draws = 3000
    results = grow([Part(np.empty(0, np.int32), seed, False) for seed in range(draws)], 1)
    counts, log_probs = {}, {}
    for result in results:
        [token], [log_prob] = result["tokens"], result["log_probs"]
        counts[token] = counts.get(token, 0) + 1
        log_probs[token] = log_prob
    expected = {token: draws * np.exp(log_prob) for token, log_prob in log_probs.items()}
    assert sum(expected.values()) == pytest.approx(draws, rel=0.02)  # hardly a token was never drawn
    chi_square = sum((counts[token] - expected[token]) ** 2 / expected[token] for token in counts)
    freedom = len(counts) - 1
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom)  # mean and 4 standard deviations


def test_noise_of_neighbouring_places_and_seeds_is_unrelated():
    from kimi_plugins.rollout.noise import gumbel

    n = 4000
    here, next_place, next_seed = (
        torch.stack([gumbel(seed + by_seed, 7 + by_place, 20) for seed in range(0, 2 * n, 2)]).flatten()
        for by_seed, by_place in ((0, 0), (0, 1), (1, 0))
    )
    for other in (next_place, next_seed):
        assert abs(torch.corrcoef(torch.stack([here, other]))[0, 1]) < 4 / (20 * n) ** 0.5
    assert here.mean() == pytest.approx(0.5772, abs=0.02) and here.var() == pytest.approx(torch.pi**2 / 6, rel=0.03)


def test_a_loop_is_ended_by_the_engine_or_at_the_end_of_a_segment(grow):
    """An untrained model sampled greedily repeats itself."""
    [greedy] = generate(grow, [None], iter([LONGEST]), temperature=0)
    for budget in (LONGEST, 7):
        [ended] = generate(grow, [None], itertools.repeat(budget), temperature=0, repetition=LOOPS)
        assert ended.finish == "repetition"
        assert len(ended.tokens) < len(greedy.tokens)
        assert ended.tokens.tolist() == greedy.tokens.tolist()[: len(ended.tokens)]
        assert not ended.response["truncated"]


def test_a_response_that_is_ended_is_graded_as_it_stands(grow):
    part = Part(np.array([5, 6, 7], np.int32), 3, True)
    [result] = grow([part], 10)
    assert result["tokens"] == [] and result["finish"] == EXPIRED
    assert result["response"]["truncated"] and result["response"]["reward"] > len(PROMPT)
