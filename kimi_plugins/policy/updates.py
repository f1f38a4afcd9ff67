"""The policy's optimizer steps: what the hooks of kimi-policy in the workers delegate to (k1.5 §2.3.2)."""

import torch

from kimi_plugins.policy.optimizer_reset import reset_optimizer, resets_at, set_learning_rates


def before_optimizer_step(
    experiences: list, taken: int, optimizer, scheduler, step: int, args, auxiliary=None
) -> bool:
    """Reset the optimizer and set its learning rates where that is due; tell whether this optimizer step is skipped.

    With an auxiliary loss its gradient is added, its value logged with the experiences, and nothing skipped.

    Args:
        experiences: this rank's micro-batches of the optimizer step.
        taken: optimizer steps taken on the rollouts of this iteration.
        step: number of the iteration, from 1.
        auxiliary: policy.ptx.AuxiliaryLoss, or None.
    """
    policy = args.kimi.policy
    due = resets_at(step, policy)
    if due and taken == 0:  # as often as the first one is skipped: the same again
        reset_optimizer(optimizer, policy.optimizer_reset)
    if policy.reset_warm_up:
        set_learning_rates(optimizer, scheduler, taken=taken, warm_up=policy.reset_warm_up if due else 0)
    if auxiliary is None:
        return has_no_gradient(experiences, taken, args)
    loss = auxiliary.add_gradient()
    for experience in experiences:
        experience.info["kimi/sft_loss"] = torch.full((len(experience.action_mask),), loss)
    return False


def has_no_gradient(experiences: list, taken: int, args) -> bool:
    """Whether the gradient of an optimizer step is zero but for rounding, as far as this rank knows.

    It is where all advantages are 0 and π_θ still is π_i, so that every log ratio is 0 and nothing is pulled back.
    After the first step (taken > 0) the pull has a gradient; so have OpenRLHF's own losses beside the policy's.
    """
    actor, kl = args.actor, args.algo.kl
    if taken or actor.entropy_coef or actor.aux_loss_coef > 1e-8 or (kl.use_loss and kl.init_coef > 0):
        return False
    return not any(torch.where(e.action_mask.bool(), e.advantages, 0.0).any() for e in experiences)
