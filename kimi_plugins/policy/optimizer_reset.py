"""Optimizer reset (k1.5 §2.3.2): the reference policy changed, so the optimizer starts afresh."""

import torch

# DeepSpeed's stage 0 wrappers run one zero-gradient step when they are built: a fresh one stands at step 1.
_STEP_AT_CONSTRUCTION = {"FP16_Optimizer": 1, "FP16_UnfusedOptimizer": 1}
_FIRST_MOMENTS = {"exp_avg", "momentum_buffer"}
_MOMENTS = _FIRST_MOMENTS | {"exp_avg_sq", "max_exp_avg_sq"}


def resets_at(step: int, policy) -> bool:
    """Whether the options of kimi.policy have the optimizer reset before the update of a step, the first being 1."""
    return policy.optimizer_reset != "none" and (step - 1) % policy.reset_every == 0


def reset_optimizer(optimizer, what: str = "all") -> None:
    """Put moments and step counters back to where a freshly built optimizer has them.

    Works in place, because DeepSpeed keeps references to the moment tensors. Weights, fp32 masters, param_groups'
    hyper-parameters and the learning-rate schedule stay as they are. Every data-parallel rank must call it.

    Args:
        optimizer: an Adam-type or Muon torch optimizer, or DeepSpeed's wrapper of one (engine.optimizer), ZeRO 0–3,
            with or without optimizer offload.
        what: "all", or "first_moment" for the momentum alone, after which Adam's steps begin small: 1 − β₁ of the
            gradient over the second moment that it knows.

    Raises:
        ValueError: the state has an entry that is neither a known moment nor a step counter; nothing was changed.
    """
    step = _STEP_AT_CONSTRUCTION.get(type(optimizer).__name__, 0)
    base = getattr(optimizer, "optimizer", optimizer)
    states = base.state.values()
    unknown = {
        key
        for state in states
        for key, value in state.items()
        if key != "step" and not (key.removesuffix("_offload_buffer") in _MOMENTS and torch.is_tensor(value))
    }
    if unknown:
        raise ValueError(
            f"{type(base).__name__} keeps state that kimi.policy.optimizer_reset cannot reset: "
            f"{', '.join(sorted(unknown))}; use Adam or Muon (actor.optim), or turn kimi.policy.optimizer_reset off"
        )
    for state in states:
        for key, value in state.items():
            if key.removesuffix("_offload_buffer") in _FIRST_MOMENTS or (what == "all" and key != "step"):
                value.zero_()
    if what == "first_moment":
        return
    for state in states:
        if torch.is_tensor(state.get("step")):
            state["step"].fill_(step)
        elif "step" in state:
            state["step"] = step
    for group in base.param_groups:
        if "step" in group:
            group["step"] = 0  # FusedAdam's seed for states it has yet to create; it never counts here


def set_learning_rates(optimizer, scheduler, *, taken: int, warm_up: int) -> None:
    """Let the learning rates of the next optimizer step be the scheduler's, or less of it after a reset.

    Args:
        optimizer, scheduler: as DeepSpeed returns them; the scheduler sets the rates anew after every step.
        taken: optimizer steps taken since the reset: the n-th one has n / (warm_up + 1) of the scheduler's rate.
        warm_up: number of steps with a lower rate; 0 for none.
    """
    share = min(1.0, (taken + 1) / (warm_up + 1))
    for group, rate in zip(optimizer.param_groups, scheduler.get_last_lr(), strict=True):
        group["lr"] = rate * share
