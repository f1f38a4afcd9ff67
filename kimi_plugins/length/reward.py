"""The length reward within a prompt's group, and its warm-up (k1.5 §2.3.3). P: prompts, k: responses a prompt."""

import torch
from torch import Tensor


def length_rewards(lengths: Tensor, correct: Tensor, *, wrong: str) -> Tensor:
    """λ = 0.5 − (len − min_len) / (max_len − min_len) of a correct response; of a wrong one min(0, λ), or nothing.

    Args:
        lengths: [P, k] response lengths in tokens; of a response cut by length, the tokens it has.
        correct: [P, k], 1 where the final answer is right, 0 where it is wrong.
        wrong: "penalise" for the report's min(0, λ); "spare" for 0: failing fast gains nothing.

    Returns:
        [P, k] in [−0.5, 0.5]; 0 in a group whose lengths are all equal.

    Raises:
        ValueError: a correctness other than 0 and 1, or an unknown `wrong`.
    """
    strange = correct[(correct != 0) & (correct != 1)]
    if len(strange):
        raise ValueError(
            f"the length reward needs to know what is correct and found {strange[0].item():g}: return scores of 0 or "
            "1 from the reward function, beside whatever rewards it gives"
        )
    lengths = lengths.float()
    shortest, longest = lengths.amin(dim=-1, keepdim=True), lengths.amax(dim=-1, keepdim=True)  # [P, 1]
    spread = longest - shortest
    rewards = torch.where(spread > 0, 0.5 - (lengths - shortest) / spread.clamp(min=1), 0.0)  # [P, k]
    if wrong == "penalise":
        return torch.where(correct == 1, rewards, rewards.clamp(max=0.0))
    if wrong == "spare":
        return torch.where(correct == 1, rewards, 0.0)
    raise ValueError(f"kimi.length.wrong is {wrong!r}; choose penalise or spare")


def weight_at(step: int, *, weight: float, warm_up_steps: int, ramp_steps: int) -> float:
    """The length reward's weight at a step (from 1): 0 while warming up, then a ramp of ramp_steps, then constant."""
    return weight * min(1.0, max(0, step - warm_up_steps) / max(1, ramp_steps))


def length_metrics(lengths: Tensor, correct: Tensor, graded: Tensor, rewards: Tensor) -> dict[str, float]:
    """What the lengths of a batch are and do; a mean over no response is left out. All arguments [P, k].

    graded: whether the grader did not fail. rewards: the weighted length rewards, as added.
    """
    equal = (lengths.amax(dim=-1) == lengths.amin(dim=-1)).float().mean().item()
    metrics = {"kimi/length_reward_mean": rewards.mean().item(), "kimi/equal_length_share": equal}
    for name, chosen in (
        ("kimi/correct_length_mean", lengths[graded & (correct == 1)]),
        ("kimi/wrong_length_mean", lengths[graded & (correct == 0)]),
    ):
        if len(chosen):
            metrics[name] = chosen.float().mean().item()
    return metrics
