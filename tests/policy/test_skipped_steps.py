"""An update without any advantage is skipped, on all ranks alike: Adam would make it of rounding noise."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ranks import finish, start

from kimi_plugins import options
from kimi_plugins.plugin import Policy

WORKER = Path(__file__).parent / "skipped_steps_worker.py"
WORLD = 2
LR = 0.01  # of the worker


def experience(advantages, mask):
    return SimpleNamespace(advantages=torch.tensor(advantages), action_mask=torch.tensor(mask))


def settings(entropy_coef=None, kl=0.0, aux=0.0, **policy):
    return SimpleNamespace(
        actor=SimpleNamespace(entropy_coef=entropy_coef, aux_loss_coef=aux),
        algo=SimpleNamespace(kl=SimpleNamespace(use_loss=kl > 0, init_coef=kl)),
        kimi=SimpleNamespace(policy=options.Policy(**policy)),
    )


def skipped(experiences, taken=0, args=None):
    args = args or settings(optimizer_reset="none")
    return Policy().openrlhf_before_optimizer_step(experiences, taken, None, None, 1, args)


NOTHING = [experience([[0.0, 5.0]], [[1, 0]]), experience([[float("nan")] * 2], [[0, 0]])]  # masked ones do not count


def test_only_a_step_without_any_advantage_at_the_reference_policy_is_skipped():
    assert skipped(NOTHING) is True
    assert skipped([*NOTHING, experience([[0.0, -0.1]], [[1, 1]])]) is False
    assert skipped(NOTHING, taken=1) is False  # what is pulled back has a gradient


@pytest.mark.parametrize("other", [{"entropy_coef": 0.01}, {"kl": 0.1}, {"aux": 0.001}])
def test_it_is_not_skipped_where_another_loss_has_a_gradient(other):
    assert skipped(NOTHING, args=settings(optimizer_reset="none", **other)) is False
    assert skipped(NOTHING, args=settings(optimizer_reset="none", entropy_coef=0.0)) is True  # measured only


@pytest.mark.parametrize(
    ("every", "step", "shares"), [(1, 4, [1, 2, 3, 4, 4]), (2, 3, [1, 2, 3, 4, 4]), (2, 4, [4] * 5)]
)
def test_after_a_reset_the_learning_rate_rises_to_that_of_the_schedule(every, step, shares):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    args = settings(optimizer_reset="all", reset_warm_up=3, reset_every=every)
    seen = []
    for taken in range(5):
        Policy().openrlhf_before_optimizer_step(NOTHING, taken, optimizer, scheduler, step, args)
        seen.append(optimizer.param_groups[0]["lr"] / 0.9**taken)
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx([share / 4 for share in shares])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    directory = tmp_path_factory.mktemp("skipped")
    finish(list(start(WORKER, WORLD, directory)), directory)
    return [json.loads((directory / f"skipped_{rank}.json").read_text()) for rank in range(WORLD)]


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("case", ["ZeRO 0", "ZeRO 1", "ZeRO 2", "ZeRO 3", "ZeRO 2, dynamic batches"])
def test_a_skipped_step_changes_nothing_and_an_advantage_on_one_rank_is_enough_for_none(results, case):
    for rank in results:
        none, one = rank[case]["none"], rank[case]["one"]
        assert (none["moved"], none["steps"], none["schedule"], none["logged"]) == (0, 0, 0, [0, 2])
        assert none["measured"] and one["measured"]
        taken, left_out = one["logged"]
        assert taken + left_out == 2 and one["steps"] == one["schedule"] == taken >= 1
        assert one["moved"] > LR / 10 and one["moment"] > 0


@pytest.mark.slow
@pytest.mark.stack
def test_without_the_plugin_adam_makes_steps_of_rounding_noise(results):
    for rank in results:
        assert rank["without"]["none"]["moved"] > LR / 2


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("stage", [0, 2])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_ends_the_run_before_it_reaches_the_weights(results, value, stage):
    for rank in results:
        ended = rank[f"{value} {stage}"]
        assert (
            ended["said"].startswith("the loss is ") and " in micro-batch 1 after 0 optimizer steps" in ended["said"]
        )
        assert ended["moved"] == 0
