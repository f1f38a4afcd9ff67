"""The length reward of a rollout batch, and its metrics: what the hooks of kimi-length delegate to (k1.5 §2.3.3)."""

import torch
from torch import Tensor

from kimi_plugins import groups
from kimi_plugins.length.reward import is_correct, length_metrics, length_rewards, over_budget, weight_at


def add_length_rewards(experiences: list, step: int, args) -> None:
    """Add the weighted length rewards of every prompt's group to the rewards of its samples."""
    groups.add_to_rewards(experiences, _weighted(experiences, step, args))


def penalise_over_budget(experiences: list, args) -> None:
    """Take the penalty from the rewards of the responses that are longer than their prompt's budget."""
    if args.kimi.length.budget_penalty:
        groups.add_to_rewards(experiences, -args.kimi.length.budget_penalty * _over_budget(experiences, args).float())


def metrics(experiences: list, step: int, args) -> dict[str, float]:
    lengths, scores, graded = _by_prompt(experiences, args)
    correct = is_correct(scores, args.kimi.length.correct_from)
    added = _weighted(experiences, step, args)
    found = length_metrics(lengths, correct, graded, added) | {"kimi/length_reward_weight": _weight(step, args)}
    if args.kimi.length.budget_penalty:
        found["kimi/over_budget_share"] = _over_budget(experiences, args).float().mean().item()
    return found


def _over_budget(experiences: list, args) -> Tensor:
    """[P, k], bool."""
    lengths, _, graded = _by_prompt(experiences, args)
    budgets = groups.by_prompt(
        experiences,
        args.rollout.n_samples_per_prompt,
        lambda e: torch.tensor([_budget(e, sample, args.kimi.length) for sample in range(len(e.index))]),
    )
    return over_budget(lengths, budgets, graded)


def _budget(experience, sample: int, length) -> float:
    """Token budget of one sample's prompt; inf if it has none."""
    own = None if length.budget_key is None else experience.rows[sample][length.budget_key]
    if own is None:
        return float("inf") if length.budget is None else float(length.budget)
    if isinstance(own, bool) or not isinstance(own, int | float) or not own >= 1:
        raise ValueError(
            f"kimi.length.budget_key: a prompt has the {length.budget_key} {own!r}; a budget is a number of tokens "
            "≥ 1, or null for that of kimi.length.budget"
        )
    return float(own)


def _weighted(experiences: list, step: int, args) -> Tensor:
    """[P, k]; scores are only looked at where the weight is not 0."""
    lengths, scores, graded = _by_prompt(experiences, args)
    weight, length = _weight(step, args), args.kimi.length
    if weight == 0:
        return torch.zeros_like(scores)
    return weight * length_rewards(lengths, scores, graded, wrong=length.wrong, correct_from=length.correct_from)


def _by_prompt(experiences: list, args) -> tuple[Tensor, Tensor, Tensor]:
    """Lengths in tokens, scores, and whether the grade did not fail; all [P, k]."""
    k = args.rollout.n_samples_per_prompt
    # OpenRLHF's response_length reaches from the first token to the last, with what tools wrote between two turns.
    turns = args.train.agent_func_path is not None
    lengths = groups.by_prompt(experiences, k, lambda e: e.action_mask.sum(-1) if turns else e.response_length)
    return lengths, groups.correctness_by_prompt(experiences, k), ~groups.failed_by_prompt(experiences, k)


def _weight(step: int, args) -> float:
    length = args.kimi.length
    return weight_at(step, weight=length.weight, warm_up_steps=length.warm_up_steps, ramp_steps=length.ramp_steps)
