"""What the policy's hooks need of the configuration, checked before the run starts (k1.5 §2.3.2)."""

import math
from collections.abc import Iterator
from operator import attrgetter

from kimi_plugins.groups import baseline_key

# OpenRLHF's flags of its own loss, which kimi-policy replaces: key and default. is_correction_level still has an
# effect (log-probs of the engines are kept, and vllm_kl is logged).
NO_EFFECT: dict[str, object] = {
    "actor.eps_clip": 0.2,
    "actor.eps_clip_low_high": None,
    "actor.dual_clip": None,
    "actor.policy_loss_type": "ppo",
    "algo.advantage.is_correction_mode": "mask",
    "algo.advantage.is_correction_gating": "ratio",
    "algo.advantage.is_correction_threshold": [0.5, 5.0],
}


def problems(args) -> list[str]:
    """Settings under which the mirror-descent loss would be undefined, or would silently be another one."""
    return list(_problems(args))


def _without_effect(args) -> Iterator[str]:
    for key, default in NO_EFFECT.items():
        value = attrgetter(key)(args)
        if key == "actor.eps_clip_low_high" and value is not None and set(value) == {args.actor.eps_clip}:
            continue  # as OpenRLHF completes it
        if (list(value) if isinstance(value, tuple) else value) != default:
            yield (
                f"{key} is {value}: kimi-policy has a loss of its own, in which it has no effect; leave it out, or "
                "train without kimi-policy"
            )


def _problems(args) -> Iterator[str]:
    policy, algo = args.kimi.policy, args.algo
    if not 0 < policy.tau < math.inf:
        yield f"kimi.policy.tau is {policy.tau}: τ must be a finite number > 0, e.g. 0.1"
    if not policy.max_log_ratio > 0:
        yield f"kimi.policy.max_log_ratio is {policy.max_log_ratio}: it must be > 0 (nats), e.g. 100"
    if not (policy.importance_cap == 0 or policy.importance_cap >= 1):
        yield f"kimi.policy.importance_cap is {policy.importance_cap}: it must be 0 (off) or at least 1, e.g. 2"
    elif policy.importance_cap and algo.advantage.is_correction_level == "off":
        yield (
            "kimi.policy.importance_cap needs the log-probs of the policies that wrote the tokens: set "
            "algo.advantage.is_correction_level to token"
        )
    if policy.importance_cap and args.rollout.top_p < 1:
        yield (
            f"rollout.top_p is {args.rollout.top_p} with kimi.policy.importance_cap: the weights compare the policy "
            "with the engines' truncated distribution; set rollout.top_p to 1, or kimi.policy.importance_cap to 0"
        )
    yield from _without_effect(args)
    if policy.linked_baseline:
        if baseline_key(args) is None:
            yield (
                "kimi.policy.linked_baseline is true and kimi.sampling.linked_key not set: load kimi-sampling, and "
                "set the key to the column whose equal values link prompts, such as pair"
            )
        if algo.dynamic_filtering_enable:
            yield (
                "kimi.policy.linked_baseline is true with algo.dynamic_filtering_enable: the filter drops a prompt by "
                "its own responses and would leave those linked to it behind; turn one of the two off"
            )
    if algo.advantage.estimator != "dr_grpo":
        yield (
            f"algo.advantage.estimator is {algo.advantage.estimator}: set it to dr_grpo, the only one that leaves the "
            "group's advantages as kimi.policy.baseline makes them (no critic, no division, no whitening)"
        )
    if algo.kl.init_coef > 0 and not algo.kl.use_loss:
        yield (
            f"algo.kl.init_coef is {algo.kl.init_coef}: a KL in the reward gives the tokens of a response different "
            "advantages; set it to 0 (τ already is the weight of the KL) or set algo.kl.use_loss"
        )
