"""Prompts that share a baseline, kimi.policy.linked_baseline: a text and its image as one group (k1.5 §2.3.5)."""

import math
import random
from types import SimpleNamespace

import pytest
import torch
from openrlhf import plugins
from openrlhf.datasets import PromptDataset
from openrlhf.trainer.ppo_utils.experience import Experience, make_experience_batch, split_experience_batch

from kimi_plugins import groups, options
from kimi_plugins.plugin import Length, Policy, Rewards
from kimi_plugins.policy.advantages import group_advantages, linked_advantages, zero_advantage_share

K = 4
# Two pairs, one of them not in a row; two without; one whose twin is elsewhere; three of a kind.
PAIRS = ["a", "b", "a", None, "c", "c", "b", None, "d", "c"]
LINKED = [[0, 2], [1, 6], [3], [4, 5, 9], [7], [8]]
BASELINES = {
    "mean": lambda rewards, tau: sum(rewards) / len(rewards),
    "log_z": lambda rewards, tau: tau * math.log(sum(math.exp(r / tau) for r in rewards) / len(rewards)),
    "none": lambda rewards, tau: 0.0,
}


def settings(key="pair", baseline_scale=1.0, **policy):
    kimi = SimpleNamespace(
        policy=options.Policy(linked_baseline=key is not None, baseline_scale=baseline_scale, **policy),
        sampling=options.Sampling(linked_key=key),
        rewards=options.Rewards(failure_limit=1.0),
        length=options.Length(warm_up_steps=0),
    )
    return SimpleNamespace(
        kimi=kimi, rollout=SimpleNamespace(n_samples_per_prompt=K), train=SimpleNamespace(agent_func_path=None)
    )


def batch(rewards, pairs=PAIRS, failed=None, size=7):
    """Experiences of all samples in a shuffled order, `size` each. rewards, failed: [P, K]."""
    order = list(range(rewards.numel()))
    random.Random(0).shuffle(order)
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    flat, lost = rewards.flatten(), torch.zeros_like(rewards) if failed is None else failed
    return [
        SimpleNamespace(
            index=part,
            rows=[{"pair": pairs[place // K]} for place in part],
            rewards=flat[part],
            scores=(flat[part] > 0.5).float(),
            response_length=torch.tensor([1 + (7 * place) % 11 for place in part]),
            info={groups.GRADER_FAILED: lost.flatten()[part].float()},
        )
        for part in parts
    ]


def random_rewards(prompts=10):
    return torch.rand(prompts, K, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("baseline", BASELINES)
def test_samples_without_a_response_are_in_no_baseline(baseline):
    """They are not trained on, and their rewards would push those that are."""
    rewards, tau = random_rewards(), 0.3
    empty = torch.rand(rewards.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    empty[3] = True  # a group of which nothing is left
    experiences = batch(rewards)
    for experience in experiences:
        experience.response_length[empty.flatten()[experience.index]] = 0
    advantages = Policy().openrlhf_group_advantages(rewards, experiences, settings(baseline=baseline, tau=tau))
    assert advantages[empty].abs().max() == 0
    for prompts in LINKED:
        joined = [reward for prompt in prompts for reward in rewards[prompt][~empty[prompt]].tolist()]
        for prompt in prompts:
            expected = rewards[prompt] - (BASELINES[baseline](joined, tau) if joined else 0.0)
            torch.testing.assert_close(advantages[prompt][~empty[prompt]], expected[~empty[prompt]])


@pytest.mark.parametrize("baseline", BASELINES)
def test_one_baseline_for_all_responses_to_linked_prompts_by_brute_force(baseline):
    rewards, tau = random_rewards(), 0.3
    advantages = Policy().openrlhf_group_advantages(rewards, batch(rewards), settings(baseline=baseline, tau=tau))
    for prompt, pair in enumerate(PAIRS):
        mates = [n for n, other in enumerate(PAIRS) if n == prompt or (pair is not None and other == pair)]
        joined = [reward for mate in mates for reward in rewards[mate].tolist()]
        expected = [reward - BASELINES[baseline](joined, tau) for reward in rewards[prompt].tolist()]
        assert advantages[prompt].tolist() == pytest.approx(expected, abs=1e-6)


def test_linked_prompts_are_found_in_any_order_of_micro_batches():
    assert groups.sharing_baseline(batch(random_rewards()), settings()) == LINKED
    assert groups.sharing_baseline(batch(random_rewards()), settings(key=None)) == [
        [prompt] for prompt in range(len(PAIRS))
    ]
    without = SimpleNamespace(
        kimi=SimpleNamespace(),
        rollout=SimpleNamespace(n_samples_per_prompt=K),
        train=SimpleNamespace(agent_func_path=None),
    )
    assert groups.sharing_baseline(batch(random_rewards()), without) == [[prompt] for prompt in range(len(PAIRS))]


def test_numbers_are_values_too():
    assert groups.sharing_baseline(batch(random_rewards(4), pairs=[0, None, 0, 1]), settings()) == [[0, 2], [1], [3]]


@pytest.mark.parametrize("baseline", BASELINES)
def test_without_a_key_every_prompt_has_its_own_baseline(baseline):
    rewards = random_rewards()
    chosen = settings(key=None, baseline=baseline)
    advantages = Policy().openrlhf_group_advantages(rewards, batch(rewards), chosen)
    assert torch.equal(advantages, group_advantages(rewards, baseline=baseline, tau=chosen.kimi.policy.tau))
    assert Policy().openrlhf_prompt_columns(chosen) == [] and Policy().openrlhf_prompt_columns(settings()) == ["pair"]


def test_equal_rewards_of_linked_prompts_have_advantages_of_exactly_zero_and_are_counted_once():
    right, wrong = [1.0] * K, [0.0] * K
    rewards = torch.tensor([right, wrong, right, right, wrong])
    linked = [[0, 1], [2, 3], [4]]
    advantages = linked_advantages(rewards, linked, baseline="mean", tau=0.1)
    assert advantages[2:].abs().max() == 0 and advantages[:2].abs().min() == 0.5
    assert zero_advantage_share(advantages, linked) == pytest.approx(2 / 3)
    experiences = batch(rewards, pairs=["a", "a", "b", "b", None])
    assert Policy().openrlhf_metrics(experiences, 1, settings())["kimi/zero_advantage_share"] == pytest.approx(2 / 3)
    assert Policy().openrlhf_metrics(experiences, 1, settings(key=None))["kimi/zero_advantage_share"] == 1.0


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_failed_grade_has_no_advantage_and_does_not_count_in_the_shared_baseline(baseline):
    rewards, tau = random_rewards(), 0.3
    failed = torch.zeros(len(PAIRS), K, dtype=torch.bool)
    failed[0, 1] = failed[2, 3] = failed[3, 0] = True
    failed[[1, 6]] = True  # linked prompts without any grade
    experiences, chosen = batch(rewards, failed=failed), settings(baseline=baseline, tau=tau)
    Rewards().openrlhf_shape_rewards(experiences, chosen)
    shaped = groups.by_prompt(experiences, K, lambda experience: experience.rewards)
    advantages = Policy().openrlhf_group_advantages(shaped, experiences, chosen)
    assert advantages[failed].eq(0).all()
    graded = rewards[[0, 2]][~failed[[0, 2]]]
    expected = [reward - BASELINES[baseline](graded.tolist(), tau) for reward in graded.tolist()]
    assert advantages[[0, 2]][~failed[[0, 2]]].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("over", "rate"), [("group", 3 / 8), ("batch", 3 / 12)])
def test_the_baseline_rises_with_the_success_rate_of_linked_prompts_or_of_the_batch(over, rate):
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0] * K, [1.0, 0.0, 0.0, 0.0]])
    experiences = batch(rewards, pairs=["a", None, "a"])
    chosen = settings(baseline_rises=over, baseline_scale=0.5)
    advantages = Policy().openrlhf_group_advantages(rewards, experiences, chosen)
    torch.testing.assert_close(advantages[[0, 2]], rewards[[0, 2]] - 0.5 * rate * 3 / 8)
    assert advantages[1].eq(0).all()


def test_lengths_are_compared_within_one_prompt():
    with_key, without = batch(random_rewards()), batch(random_rewards())
    Length().openrlhf_shape_rewards(with_key, 1, settings())
    Length().openrlhf_shape_rewards(without, 1, settings(key=None))
    for one, other, before in zip(with_key, without, batch(random_rewards()), strict=True):
        assert torch.equal(one.rewards, other.rewards) and not torch.equal(one.rewards, before.rewards)


# -- what OpenRLHF hands to the hook --


def test_rows_stay_with_their_samples():
    ones = [
        Experience(
            sequences=torch.arange(n + 2)[None], total_length=torch.tensor([n + 2]), rows=[{"pair": n}], index=[n]
        )
        for n in range(5)
    ]
    joined = Experience.concat_experiences(ones, 0)
    assert [row["pair"] for row in joined.rows] == joined.index == [0, 1, 2, 3, 4]
    parts = split_experience_batch(joined)
    assert [part.rows for part in parts] == [one.rows for one in ones]
    assert make_experience_batch(parts[3:]).rows == [{"pair": 3}, {"pair": 4}]


def test_a_prompt_set_gives_the_columns_that_are_asked_for():
    from datasets import Dataset

    data = Dataset.from_list([{"input": "1+1", "pair": "a", "level": 1}, {"input": "2", "pair": None, "level": 2}])
    strategy = SimpleNamespace(args=SimpleNamespace(data=SimpleNamespace(input_key="input")), is_rank_0=lambda: False)
    asked = PromptDataset(data, None, strategy, columns=["pair"])
    assert [asked.row(0), asked.row(1)] == [{"pair": "a"}, {"pair": None}]
    assert PromptDataset(data, None, strategy).row(1) == {}
    with pytest.raises(ValueError, match="'twin'.*not in the dataset"):
        PromptDataset(data, None, strategy, columns=["twin"])


@pytest.fixture
def recipe():
    """kimi-policy, loaded in this process alone."""
    plugins.load(["kimi-policy"])
    yield
    plugins._manager.unregister(name="kimi-policy")


@pytest.mark.stack
def test_the_experience_maker_takes_the_baseline_of_linked_prompts(recipe):
    from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker  # imports DeepSpeed

    args = settings()
    args.algo = SimpleNamespace(advantage=SimpleNamespace(estimator="dr_grpo", gamma=1.0))
    args.reward = SimpleNamespace(clip_range=None)
    args.actor = SimpleNamespace(stop_properly_penalty_coef=None)
    maker = object.__new__(RemoteExperienceMaker)
    maker.strategy, maker.advantage_estimator = SimpleNamespace(args=args), "dr_grpo"
    maker.kl_ctl = SimpleNamespace(value=0.0)
    rewards = random_rewards(4)
    experiences = batch(rewards, pairs=["a", None, None, "a"])
    for experience in experiences:
        size = len(experience.index)
        experience.action_mask = torch.ones(size, 2)
        experience.kl = torch.zeros(size, 2)
        experience.sequences = torch.zeros(size, 3)
    maker.compute_advantages_and_returns(experiences, step=1)
    advantages = groups.by_prompt(experiences, K, lambda experience: experience.advantages[:, 0])
    mean = rewards[[0, 3]].mean()
    torch.testing.assert_close(advantages[[0, 3]], rewards[[0, 3]] - mean)
    torch.testing.assert_close(advantages[[1, 2]], rewards[[1, 2]] - rewards[[1, 2]].mean(-1, keepdim=True))
    assert (rewards[0].mean() - mean).abs() > 0.01  # its own baseline would be another
