"""The hook implementations as OpenRLHF calls them."""

import argparse
from dataclasses import fields
from importlib.metadata import entry_points
from types import SimpleNamespace

import pytest
import torch
from openrlhf import plugins
from openrlhf.utils.config import hierarchize

from kimi_plugins import groups, options, plugin, run_log
from kimi_plugins.plugin import Kimi, Log, Policy, Preflight
from kimi_plugins.policy.mirror_descent import MirrorDescentLoss
from kimi_plugins.policy.optimizer_reset import resets_at
from kimi_plugins.policy.settings import problems


def settings(**changed):
    """Arguments of a run that suits kimi-policy, some changed; `__` stands for the dot."""
    values = {
        "kimi": SimpleNamespace(policy=options.Policy()),
        "algo__advantage__estimator": "dr_grpo",
        "algo__advantage__is_correction_level": "token",
        "algo__advantage__old_log_probs": "actor",
        "algo__kl__init_coef": 0.0,
        "algo__kl__use_loss": False,
        "rollout__n_samples_per_prompt": 4,
        "actor__loss_agg_mode": "token-mean",
        "actor__eps_clip": 0.2,
        "actor__eps_clip_low_high": (0.2, 0.2),  # as OpenRLHF completes it
        "actor__dual_clip": None,
        "actor__policy_loss_type": "ppo",
        "algo__advantage__is_correction_mode": "mask",
        "algo__advantage__is_correction_gating": "ratio",
        "algo__advantage__is_correction_threshold": [0.5, 5.0],
        "rollout__top_p": 1.0,
    } | changed
    return hierarchize(SimpleNamespace(**{key.replace("__", "."): value for key, value in values.items()}))


@pytest.mark.parametrize("name", Kimi.openrlhf_plugins)
def test_a_plugins_own_options_are_among_the_flags(name):
    [point] = entry_points(group="openrlhf", name=name)
    plugin, parser = point.load()(), argparse.ArgumentParser()
    plugin.openrlhf_add_arguments(parser, "train")
    args = hierarchize(parser.parse_args([]))
    section = getattr(args.kimi, plugin.section)
    assert vars(section).keys() >= {field.name for field in fields(options.SECTIONS[plugin.section])}
    before = len(parser._actions)
    plugin.openrlhf_add_arguments(parser, "sft")
    assert len(parser._actions) == before


def test_the_bundle_names_every_plugin():
    rows = {row["name"]: row for row in plugins.installed() if row["distribution"].replace("-", "_") == "kimi_plugins"}
    assert set(Kimi.openrlhf_plugins) == set(rows) - {"kimi"}
    assert all(row["error"] is None for row in rows.values()), rows
    assert rows["kimi"]["members"] == list(Kimi.openrlhf_plugins)
    assert "openrlhf_check_machine" in rows["kimi-preflight"]["hooks"] and hasattr(Preflight, "openrlhf_check_machine")


@pytest.mark.parametrize(
    "with_section", [one for one in vars(plugin).values() if isinstance(getattr(one, "section", None), str)]
)
def test_every_plugin_with_a_section_adds_the_flags_of_it(with_section):
    parser = argparse.ArgumentParser()
    with_section().openrlhf_add_arguments(parser, "train")
    added = vars(hierarchize(parser.parse_args([])).kimi)
    assert vars(added[with_section.section])


def test_options_become_flags_with_their_defaults():
    parser = argparse.ArgumentParser()
    Policy().openrlhf_add_arguments(parser, "train")
    assert vars(parser.parse_args([])) == {f"kimi.policy.{k}": v for k, v in vars(options.Policy()).items()}
    changed = parser.parse_args(["--kimi.policy.tau", "0.5", "--kimi.policy.optimizer_reset", "none"])
    assert (getattr(changed, "kimi.policy.tau"), getattr(changed, "kimi.policy.optimizer_reset")) == (0.5, "none")
    with pytest.raises(SystemExit):
        parser.parse_args(["--kimi.policy.baseline", "median"])
    other = argparse.ArgumentParser()
    Policy().openrlhf_add_arguments(other, "sft")
    assert vars(other.parse_args([])) == {}


@pytest.mark.parametrize(
    "changed, key",
    [
        ({"kimi": SimpleNamespace(policy=options.Policy(tau=0.0))}, "kimi.policy.tau"),
        ({"kimi": SimpleNamespace(policy=options.Policy(tau=float("nan")))}, "kimi.policy.tau"),
        ({"kimi": SimpleNamespace(policy=options.Policy(max_log_ratio=0.0))}, "kimi.policy.max_log_ratio"),
        ({"kimi": SimpleNamespace(policy=options.Policy(importance_cap=0.9))}, "kimi.policy.importance_cap"),
        ({"kimi": SimpleNamespace(policy=options.Policy(form="k2.5"))}, "kimi.policy.form"),
        (
            {"kimi": SimpleNamespace(policy=options.Policy(form="k2.5", log_ratio="token", log_ratio_low=0.1))},
            "kimi.policy.log_ratio_low",
        ),
        (
            {"kimi": SimpleNamespace(policy=options.Policy(form="k2.5", log_ratio="token", log_ratio_high=-0.1))},
            "kimi.policy.log_ratio_high",
        ),
        (
            {"kimi": SimpleNamespace(policy=options.Policy(length_normalization=True, log_ratio="token"))},
            "kimi.policy.length_normalization",
        ),
        (
            {
                "kimi": SimpleNamespace(policy=options.Policy(form="k2.5", log_ratio="token")),
                "actor__loss_agg_mode": "seq-mean-token-mean",
            },
            "kimi.policy.form",
        ),
        (
            {
                "kimi": SimpleNamespace(policy=options.Policy(baseline="log_z_leave_one_out")),
                "rollout__n_samples_per_prompt": 1,
            },
            "kimi.policy.baseline",
        ),
        ({"kimi": SimpleNamespace(policy=options.Policy(baseline_scale=1.5))}, "kimi.policy.baseline_scale"),
        (
            {"kimi": SimpleNamespace(policy=options.Policy(baseline_scale=0.5, baseline="none"))},
            "kimi.policy.baseline_scale",
        ),
        (
            {"kimi": SimpleNamespace(policy=options.Policy(baseline_rises="batch", baseline="none"))},
            "kimi.policy.baseline_rises",
        ),
        (
            {"kimi": SimpleNamespace(policy=options.Policy(optimizer_reset="all", reset_every=0))},
            "kimi.policy.reset_every",
        ),
        (
            {"kimi": SimpleNamespace(policy=options.Policy(optimizer_reset="all", reset_warm_up=-1))},
            "kimi.policy.reset_warm_up",
        ),
        ({"kimi": SimpleNamespace(policy=options.Policy(log_ratio_low=-1.0))}, "kimi.policy.log_ratio_low"),
        (
            {"kimi": SimpleNamespace(policy=options.Policy(optimizer_reset="none", reset_warm_up=4))},
            "kimi.policy.reset_warm_up",
        ),
        ({"algo__advantage__estimator": "reinforce_baseline"}, "algo.advantage.estimator"),
        ({"algo__kl__init_coef": 0.01}, "algo.kl.init_coef"),
        ({"actor__eps_clip_low_high": (0.2, 0.27)}, "actor.eps_clip_low_high"),
        ({"actor__dual_clip": 3.0}, "actor.dual_clip"),
        ({"actor__policy_loss_type": "gspo"}, "actor.policy_loss_type"),
        ({"algo__advantage__is_correction_mode": "clip"}, "algo.advantage.is_correction_mode"),
        ({"algo__advantage__is_correction_threshold": [0.5, 2.0]}, "algo.advantage.is_correction_threshold"),
    ],
)
def test_settings_that_would_train_something_else_are_refused(changed, key):
    assert problems(settings()) == []
    [problem] = problems(settings(**changed))
    assert problem.startswith(f"{key} is ")


def test_the_flags_without_effect_are_told_apart_by_openrlhfs_own_defaults():
    from openrlhf.cli.train_ppo_ray import get_parser

    from kimi_plugins.policy.settings import NO_EFFECT

    defaults = vars(get_parser().parse_args([]))
    assert {key: defaults[key] for key in NO_EFFECT} == NO_EFFECT


def test_importance_weights_need_the_whole_distribution():
    weighted = {"kimi": SimpleNamespace(policy=options.Policy(importance_cap=2.0))}
    [problem] = problems(settings(**weighted, rollout__top_p=0.9))
    assert problem.startswith("rollout.top_p is 0.9 with kimi.policy.importance_cap")


def test_importance_weights_need_the_engines_log_probs():
    weighted = {"kimi": SimpleNamespace(policy=options.Policy(importance_cap=2.0))}
    assert problems(settings(**weighted)) == []
    [problem] = problems(settings(**weighted, algo__advantage__is_correction_level="off"))
    assert "set algo.advantage.is_correction_level to token" in problem
    [problem] = problems(settings(**weighted, algo__advantage__old_log_probs="rollout"))
    assert problem.startswith("kimi.policy.importance_cap with algo.advantage.old_log_probs rollout")


def linked(key, *, baseline=True, filtering=False):
    kimi = SimpleNamespace(policy=options.Policy(linked_baseline=baseline), sampling=options.Sampling(linked_key=key))
    return settings(kimi=kimi, algo__dynamic_filtering_enable=filtering)


def test_prompts_that_share_a_baseline_must_come_together():
    assert problems(linked("pair")) == []
    assert problems(linked("pair", baseline=False, filtering=True)) == []
    [problem] = problems(linked(None))
    assert "kimi.sampling.linked_key not set" in problem
    [problem] = problems(
        settings(
            kimi=SimpleNamespace(policy=options.Policy(linked_baseline=True)), algo__dynamic_filtering_enable=False
        )
    )
    assert "load kimi-sampling" in problem
    [problem] = problems(linked("pair", filtering=True))
    assert "algo.dynamic_filtering_enable" in problem


def test_a_kl_in_the_loss_is_allowed():
    assert problems(settings(algo__kl__init_coef=0.01, algo__kl__use_loss=True)) == []


def test_the_loss_is_built_from_the_options():
    policy = options.Policy(tau=0.3, log_ratio="token", max_log_ratio=7.0)
    args = settings(kimi=SimpleNamespace(policy=policy), actor__loss_agg_mode="seq-mean-token-mean")
    loss = Policy().openrlhf_policy_loss(args)
    assert isinstance(loss, MirrorDescentLoss)
    assert (loss.tau, loss.log_ratio, loss.max_log_ratio, loss.token_level_loss) == (0.3, "token", 7.0, False)


@pytest.mark.parametrize(
    ("what", "every", "step", "cleared"),
    [
        ("all", 1, 2, {"step", "exp_avg", "exp_avg_sq"}),
        ("all", 3, 4, {"step", "exp_avg", "exp_avg_sq"}),
        ("all", 3, 3, set()),
        ("first_moment", 1, 2, {"exp_avg"}),
        ("none", 1, 2, set()),
    ],
)
def test_the_optimizer_is_reset_when_and_as_asked_for(what, every, step, cleared):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    policy = options.Policy(optimizer_reset=what, reset_every=every)
    args = settings(kimi=SimpleNamespace(policy=policy), actor__entropy_coef=None, actor__aux_loss_coef=0)
    Policy().openrlhf_before_optimizer_step([], 1, optimizer, None, step, args)
    assert all(value.any() for value in optimizer.state[weight].values())  # not amid an iteration
    Policy().openrlhf_before_optimizer_step([], 0, optimizer, None, step, args)
    assert {name for name, value in optimizer.state[weight].items() if not value.any()} == cleared
    assert resets_at(step, policy) is bool(cleared)


def test_groups_survive_any_order_of_micro_batches():
    rewards = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    order = [7, 2, 0, 5, 3, 8, 1, 6, 4]
    experiences = [
        SimpleNamespace(
            index=part,
            rewards=rewards.flatten()[part],
            scores=rewards.flatten()[part],
            response_length=torch.ones(len(part)),
            info={},
        )
        for part in (order[:2], order[2:7], order[7:])
    ]
    assert torch.equal(groups.by_prompt(experiences, 3, lambda experience: experience.rewards), rewards)
    args = settings(rollout__n_samples_per_prompt=3)
    assert Policy().openrlhf_metrics(experiences, 1, args)["kimi/zero_advantage_share"] == pytest.approx(2 / 3)


def test_the_log_goes_next_to_the_checkpoints(tmp_path):
    Log().openrlhf_log({"reward": 1.0}, 3, "train", SimpleNamespace(ckpt=SimpleNamespace(path=str(tmp_path / "ckpt"))))
    assert '"step": 3' in (tmp_path / "ckpt" / "metrics.jsonl").read_text()


class Letters:
    """Decodes token n to the n-th letter."""

    @staticmethod
    def decode(tokens, skip_special_tokens):
        return "".join(chr(ord("a") + token) for token in tokens.tolist())


def test_rollouts_are_kept_as_text_by_group(tmp_path):
    def sample(index, prompt, length, score):
        mask = torch.arange(5) >= 5 - length  # [A]: the response ends the sequence
        return SimpleNamespace(
            index=[index],
            prompts=[prompt],
            labels=["l"],
            sequences=torch.arange(6)[None],
            action_mask=mask[None],
            response_length=torch.tensor([length]),
            advantages=torch.full((1, 5), score - 0.5),
            rewards=torch.tensor([score + 1]),
            scores=torch.tensor([score]),
            truncated=torch.tensor([length == 3]),
            rollout_log_probs=None,
            images=None,
            info={},
        )

    # Two prompts, two responses each, in another order.
    experiences = [sample(2, "p", 1, 1.0), sample(1, "q", 3, 0.0), sample(3, "p", 2, 1.0), sample(0, "q", 2, 1.0)]
    args = SimpleNamespace(
        ckpt=SimpleNamespace(path=str(tmp_path)),
        rollout=SimpleNamespace(n_samples_per_prompt=2),
        kimi=SimpleNamespace(log=options.Log(groups=1)),
    )
    Log().openrlhf_rollouts_ready(experiences, 7, Letters, args)
    [record] = run_log.read_rollouts(tmp_path)
    assert record["step"] == 7
    assert [score for _, score in record["groups"]] == [0.5, 1.0]
    assert record["groups"][0][0] != record["groups"][1][0]
    [group] = record["samples"]
    assert (group["prompt"], group["label"]) == ("q", "l")
    assert group["responses"] == [
        {"text": "ef", "score": 1.0, "reward": 2.0, "tokens": 2, "truncated": False, "advantage": 0.5},
        {"text": "def", "score": 0.0, "reward": 1.0, "tokens": 3, "truncated": True, "advantage": -0.5},
    ]
