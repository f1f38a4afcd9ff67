"""Optimizer reset (k1.5 §2.3.2): the reference policy changed, so the optimizer starts afresh."""

import torch

# DeepSpeed's stage 0 wrappers run one zero-gradient step when they are built: a fresh one stands at step 1.
_STEP_AT_CONSTRUCTION = {"FP16_Optimizer": 1, "FP16_UnfusedOptimizer": 1}
_MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer"}


def reset_optimizer(optimizer) -> None:
    """Put moments and step counters back to where a freshly built optimizer has them.

    Works in place, because DeepSpeed keeps references to the moment tensors. Weights, fp32 masters, param_groups'
    hyper-parameters and the learning-rate schedule stay as they are. Every data-parallel rank must call it.

    Args:
        optimizer: an Adam-type or Muon torch optimizer, or DeepSpeed's wrapper of one (engine.optimizer), ZeRO 0–3,
            with or without optimizer offload.

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
            if key != "step":
                value.zero_()
            elif torch.is_tensor(value):
                value.fill_(step)
            else:
                state[key] = step
    for group in base.param_groups:
        if "step" in group:
            group["step"] = 0  # FusedAdam's seed for states it has yet to create; it never counts here
