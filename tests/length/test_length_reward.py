"""The length reward against the report's formula, response by response (k1.5 §2.3.3)."""

import math
from types import SimpleNamespace

import pytest
import torch

from kimi_plugins import options
from kimi_plugins.length.batch import add_length_rewards, metrics, penalise_over_budget
from kimi_plugins.length.reward import length_metrics, length_rewards, over_budget, weight_at
from kimi_plugins.length.settings import problems
from kimi_plugins.plugin import Length


def rewards_of(lengths, scores, **settings):
    """Of groups in which no grade failed."""
    return length_rewards(
        lengths, scores, torch.ones_like(scores, dtype=torch.bool), **{"wrong": "penalise"} | settings
    )


def by_the_formula(lengths, correct, spare):
    shortest, longest = min(lengths), max(lengths)
    if shortest == longest:
        return [0.0] * len(lengths)
    rewards = []
    for length, right in zip(lengths, correct, strict=True):
        value = 0.5 - (length - shortest) / (longest - shortest)
        rewards.append(value if right else 0.0 if spare else min(0.0, value))
    return rewards


@pytest.mark.parametrize("wrong", ["penalise", "spare"])
def test_every_group_follows_the_formula(wrong):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 32_768, (200, 8), generator=generator)
    lengths[:20] = lengths[:20, :1]  # groups of equal lengths
    correct = torch.randint(0, 2, (200, 8), generator=generator)
    expected = [
        by_the_formula(row.tolist(), right.tolist(), wrong == "spare")
        for row, right in zip(lengths, correct, strict=True)
    ]
    torch.testing.assert_close(rewards_of(lengths, correct, wrong=wrong), torch.tensor(expected))


def test_failing_fast_pays_only_under_the_reports_rule():
    lengths, correct = torch.tensor([[10, 100]]), torch.tensor([[0, 0]])
    fast, slow = rewards_of(lengths, correct)[0].tolist()
    assert fast > slow
    assert rewards_of(lengths, correct, wrong="spare").tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("value", [0.5, -1.0, math.nan])
def test_partial_credit_needs_a_threshold_where_lengths_are_compared(value):
    with pytest.raises(ValueError, match="set kimi.length.correct_from"):
        rewards_of(torch.tensor([[1, 2]]), torch.tensor([[1.0, value]]))
    assert rewards_of(torch.tensor([[2, 2]]), torch.tensor([[1.0, value]])).tolist() == [[0.0, 0.0]]


def test_a_threshold_of_correct_scores():
    lengths, scores = torch.tensor([[10, 20, 30]]), torch.tensor([[0.5, 0.8, 1.0]])
    assert rewards_of(lengths, scores, correct_from=0.8).tolist() == [[0.0, 0.0, -0.5]]
    assert rewards_of(lengths, scores, correct_from=0.5).tolist() == [[0.5, 0.0, -0.5]]


def test_partial_credit_is_accepted_at_weight_0_and_while_warming_up():
    experiences = [batch([0, 1], [10, 30], [0.5, 0.0])]
    for changed in ({"weight": 0.0}, {"warm_up_steps": 1}):
        add_length_rewards(experiences, step=1, args=settings(**changed))
        assert metrics(experiences, 1, settings(**changed))["kimi/length_reward_mean"] == 0
    assert experiences[0].rewards.tolist() == [0.5, 0.0]
    add_length_rewards(experiences, step=1, args=settings(correct_from=0.5))
    assert experiences[0].rewards.tolist() == [0.75, -0.25]


def test_a_failed_grade_is_compared_with_no_other():
    lengths, scores = torch.tensor([[100, 200, 300, 4000], [5, 9, 7, 7]]), torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    graded = torch.tensor([[True, True, True, False], [False, False, False, True]])
    found = length_rewards(lengths, scores, graded, wrong="penalise")
    assert found.tolist() == [by_the_formula([100, 200, 300], [1, 1, 0], False) + [0.0], [0.0] * 4]


def test_an_unknown_rule():
    with pytest.raises(ValueError, match="choose penalise or spare"):
        rewards_of(torch.tensor([[1, 2]]), torch.tensor([[1, 0]]), wrong="ignore")


@pytest.mark.parametrize(
    "warm_up, ramp, expected",
    [
        (0, 0, [2, 2, 2, 2, 2, 2]),
        (3, 0, [0, 0, 0, 2, 2, 2]),
        (2, 4, [0, 0, 0.5, 1.0, 1.5, 2.0]),
    ],
)
def test_the_weight_warms_up(warm_up, ramp, expected):
    weights = [weight_at(step, weight=2.0, warm_up_steps=warm_up, ramp_steps=ramp) for step in range(1, 7)]
    assert weights == expected


def test_metrics():
    lengths = torch.tensor([[10, 20], [30, 30]])
    correct = torch.tensor([[True, False], [False, False]])
    graded, rewards = torch.ones(2, 2, dtype=torch.bool), torch.tensor([[0.5, -0.5], [0.0, -1.0]])
    found = length_metrics(lengths, correct, graded, rewards)
    assert found == {
        "kimi/length_reward_mean": -0.25,
        "kimi/equal_length_share": 0.5,
        "kimi/correct_length_mean": 10.0,
        "kimi/wrong_length_mean": pytest.approx(80 / 3),
    }
    assert "kimi/correct_length_mean" not in length_metrics(lengths, ~correct & False, graded, rewards)
    graded[0, 1] = False
    assert length_metrics(lengths, correct, graded, rewards)["kimi/wrong_length_mean"] == 30.0


def settings(k=2, **changed):
    length = options.Length(**{"weight": 0.5, "warm_up_steps": 0} | changed)
    return SimpleNamespace(
        kimi=SimpleNamespace(length=length),
        reward=SimpleNamespace(model_name_or_path=None, remote_url="reward.py"),
        rollout=SimpleNamespace(n_samples_per_prompt=k, max_new_tokens=64),
        train=SimpleNamespace(agent_func_path=None),
    )


def batch(index, lengths, rewards, scores=None):
    return SimpleNamespace(
        index=index,
        response_length=torch.tensor(lengths),
        rewards=torch.tensor(rewards),
        scores=None if scores is None else torch.tensor(scores),
        info={"reward": torch.tensor(rewards)},
    )


def test_a_reward_models_scores_are_refused():
    args = settings()
    assert problems(args) == []
    args.reward = SimpleNamespace(model_name_or_path="judge", remote_url=None)
    [problem] = problems(args)
    assert problem.startswith("reward.model_name_or_path is judge: a reward model's scores do not say")


def test_what_a_tool_wrote_between_two_turns_does_not_count():
    args = settings()
    args.train.agent_func_path = "agent.py"
    group = batch([0, 1], [30, 30], [1.0, 1.0], scores=[1.0, 1.0])  # from the first token to the last
    group.action_mask = torch.ones(2, 30)
    group.action_mask[1, 5:25] = 0  # a tool's answer
    add_length_rewards([group], step=1, args=args)
    assert group.rewards.tolist() == pytest.approx([1.0 - 0.25, 1.0 + 0.25])


def test_groups_are_found_again_in_micro_batches_of_any_order_and_size():
    # Two prompts with two responses each, dealt out as dynamic batches do; an earlier shaping changed the rewards.
    experiences = [
        batch([3, 0], [40, 10], [0.7, 0.9], scores=[1.0, 1.0]),
        batch([1], [30], [-0.1], scores=[0.0]),
        batch([2], [20], [0.7], scores=[1.0]),
    ]
    add_length_rewards(experiences, step=1, args=settings())
    # First group: lengths 10 right, 30 wrong; second: 20 right, 40 right.
    assert experiences[0].rewards.tolist() == pytest.approx([0.7 - 0.25, 0.9 + 0.25])
    assert experiences[1].rewards.tolist() == pytest.approx([-0.1 - 0.25])
    assert experiences[2].rewards.tolist() == pytest.approx([0.7 + 0.25])
    assert metrics(experiences, 1, settings())["kimi/length_reward_mean"] == pytest.approx(0.0)
    assert metrics(experiences, 1, settings())["kimi/correct_length_mean"] == pytest.approx(70 / 3)


def test_rewards_serve_as_correctness_where_there_are_no_scores():
    experiences = [batch([0, 1], [10, 30], [1.0, 0.0])]
    add_length_rewards(experiences, step=1, args=settings())
    assert experiences[0].rewards.tolist() == pytest.approx([1.25, -0.25])


def test_nothing_is_added_while_warming_up():
    experiences = [batch([0, 1], [10, 30], [1.0, 0.0])]
    add_length_rewards(experiences, step=5, args=settings(warm_up_steps=5))
    assert experiences[0].rewards.tolist() == [1.0, 0.0]
    add_length_rewards(experiences, step=6, args=settings(warm_up_steps=5))
    assert experiences[0].rewards.tolist() == [1.25, -0.25]


@pytest.mark.parametrize(
    ("chosen", "budgets"), [({"budget": 25}, [25, 25]), ({"budget": 25, "budget_key": "tokens"}, [39, 25])]
)
def test_a_response_beyond_its_prompts_budget_loses_the_penalty_from_the_first_step_on(chosen, budgets):
    experiences = [batch([3, 0], [40, 10], [1.0, 0.0]), batch([1, 2], [40, 25], [1.0, 1.0])]
    rows = [{"tokens": 39}, {"tokens": None}]
    for experience in experiences:
        experience.rows = [rows[index // 2] for index in experience.index]
    before = {i: r for e in experiences for i, r in zip(e.index, e.rewards.tolist(), strict=True)}
    lengths = {i: n for e in experiences for i, n in zip(e.index, e.response_length.tolist(), strict=True)}
    args = settings(budget_penalty=0.5, warm_up_steps=9, **chosen)
    Length().openrlhf_shape_rewards(experiences, 1, args)
    for experience in experiences:
        for index, reward in zip(experience.index, experience.rewards.tolist(), strict=True):
            assert reward == before[index] - 0.5 * (lengths[index] > budgets[index // 2])
    assert metrics(experiences, 1, args)["kimi/over_budget_share"] == 2 / 4
    assert Length().openrlhf_prompt_columns(args) == (["tokens"] if "budget_key" in chosen else [])


def test_a_prompt_without_any_budget_and_a_failed_grade_are_not_penalised():
    lengths, graded = torch.tensor([[100, 10], [100, 100]]), torch.tensor([[True, True], [True, False]])
    budgets = torch.tensor([[math.inf], [50.0]])
    assert over_budget(lengths, budgets, graded).tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize("value", ["50", 0, True, math.nan])
def test_a_budget_that_is_no_number_of_tokens_is_named(value):
    experience = batch([0, 1], [40, 10], [1.0, 0.0])
    experience.rows = [{"tokens": value}] * 2
    with pytest.raises(
        ValueError, match="kimi.length.budget_key: a prompt has the tokens .*; a budget is a number of"
    ):
        penalise_over_budget([experience], settings(budget_key="tokens", budget_penalty=0.5))


@pytest.mark.parametrize(
    "changed, named",
    [
        ({"budget": 0, "budget_penalty": 0.5}, "kimi.length.budget is 0"),
        ({"budget": 64, "budget_penalty": 0.5}, "kimi.length.budget is 64: no response is longer"),
        ({"budget_penalty": -1.0, "budget": 9}, "kimi.length.budget_penalty is -1.0"),
        ({"budget_penalty": 0.5}, "kimi.length.budget_penalty is 0.5 without a budget"),
        ({"budget": 9}, "kimi.length.budget is 9 and kimi.length.budget_penalty 0"),
        ({"budget_key": "tokens"}, "kimi.length.budget_key is tokens and"),
        ({"weight": -0.1}, "kimi.length.weight is -0.1"),
        ({"weight": math.nan}, "kimi.length.weight is nan"),
        ({"weight": 2.0}, "kimi.length.weight is 2.0"),
        ({"warm_up_steps": -1}, "kimi.length.warm_up_steps is -1"),
        ({"ramp_steps": -1}, "kimi.length.ramp_steps is -1"),
        ({"correct_from": 0.0}, "kimi.length.correct_from is 0.0"),
        ({"correct_from": math.nan}, "kimi.length.correct_from is nan"),
        ({"k": 1}, "rollout.n_samples_per_prompt is 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed, named):
    assert problems(settings()) == []
    [problem] = problems(settings(**changed))
    assert problem.startswith(named)
