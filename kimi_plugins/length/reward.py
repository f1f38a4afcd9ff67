"""The length reward within a prompt's group, and its warm-up (k1.5 §2.3.3). P: prompts, k: responses a prompt."""

import torch
from torch import Tensor


def length_rewards(
    lengths: Tensor, scores: Tensor, graded: Tensor, *, wrong: str, correct_from: float | None = None
) -> Tensor:
    """λ = 0.5 − (len − min_len) / (max_len − min_len) of a correct response; of a wrong one min(0, λ), or nothing.

    Args:
        lengths: [P, k] response lengths in tokens; of a response cut by length, the tokens it has.
        scores: [P, k], 1 where the final answer is right, 0 where it is wrong; others need `correct_from`.
        graded: [P, k], bool; a response whose grade failed is compared with no other and gets 0.
        wrong: "penalise" for the report's min(0, λ); "spare" for 0: failing fast gains nothing.
        correct_from: the least score of a correct response; None: scores are 0 or 1.

    Returns:
        [P, k] in [−0.5, 0.5]; 0 in a group whose graded lengths are all equal.

    Raises:
        ValueError: a score other than 0 and 1 in a group whose lengths differ, or an unknown `wrong`.
    """
    if wrong not in ("penalise", "spare"):
        raise ValueError(f"kimi.length.wrong is {wrong!r}; choose penalise or spare")
    lengths = lengths.float()
    shortest = lengths.masked_fill(~graded, torch.inf).amin(dim=-1, keepdim=True)  # [P, 1]
    longest = lengths.masked_fill(~graded, -torch.inf).amax(dim=-1, keepdim=True)
    compared = graded & (longest > shortest)  # [P, k]
    if correct_from is None:
        partial = scores[compared & (scores != 0) & (scores != 1)]
        if len(partial):
            raise ValueError(
                f"the length reward compares correct responses and found a score of {partial[0].item():g}: set "
                "kimi.length.correct_from to the least score of a correct response, or return scores of 0 or 1"
            )
    spread = torch.where(compared, longest - shortest, 1.0)
    rewards = torch.where(compared, 0.5 - (lengths - shortest) / spread, 0.0)  # [P, k]
    others = rewards.clamp(max=0.0) if wrong == "penalise" else torch.zeros_like(rewards)
    return torch.where(is_correct(scores, correct_from), rewards, others)


def is_correct(scores: Tensor, correct_from: float | None) -> Tensor:
    """Where a response counts as correct, bool, in the shape of the scores."""
    return scores >= (1 if correct_from is None else correct_from)


def over_budget(lengths: Tensor, budgets: Tensor, graded: Tensor) -> Tensor:
    """Where a graded response has more tokens than its prompt's budget, bool [P, k] (K2 report).

    lengths: [P, k]. budgets: [P, 1] or [P, k], inf for none. graded: [P, k], bool: whose grade did not fail.
    """
    return graded & (lengths > budgets)


def weight_at(step: int, *, weight: float, warm_up_steps: int, ramp_steps: int) -> float:
    """The length reward's weight at a step (from 1): 0 while warming up, then a ramp of ramp_steps, then constant."""
    return weight * min(1.0, max(0, step - warm_up_steps) / max(1, ramp_steps))


def length_metrics(lengths: Tensor, correct: Tensor, graded: Tensor, rewards: Tensor) -> dict[str, float]:
    """What the lengths of a batch are and do; a mean over no response is left out. All arguments [P, k].

    correct, graded: bool. rewards: the weighted length rewards, as added.
    """
    equal = (lengths.amax(dim=-1) == lengths.amin(dim=-1)).float().mean().item()
    metrics = {"kimi/length_reward_mean": rewards.mean().item(), "kimi/equal_length_share": equal}
    for name, chosen in (
        ("kimi/correct_length_mean", lengths[graded & correct]),
        ("kimi/wrong_length_mean", lengths[graded & ~correct]),
    ):
        if len(chosen):
            metrics[name] = chosen.float().mean().item()
    return metrics
