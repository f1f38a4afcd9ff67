"""What the policy's hooks need of the configuration, checked before the run starts (k1.5 §2.3.2)."""

from collections.abc import Iterator
from operator import attrgetter

from kimi_plugins import options

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
    return list(_conflicts(args))


def baseline_key(args) -> str | None:
    """The column whose equal values share a baseline: kimi.sampling.linked_key under kimi.policy.linked_baseline."""
    policy, sampling = getattr(args.kimi, "policy", None), getattr(args.kimi, "sampling", None)
    return sampling.linked_key if policy and sampling and policy.linked_baseline else None


def loss_problems(policy: options.Policy, *, token_level_loss: bool) -> Iterator[str]:
    """What is wrong with the options of MirrorDescentLoss: values, and those that do not go together."""
    yield from options.invalid_values(policy, "policy")
    if policy.form == "k2.5" and policy.log_ratio != "token":
        yield (
            f"kimi.policy.form is k2.5 with kimi.policy.log_ratio {policy.log_ratio}: it is a loss of single tokens; "
            "set kimi.policy.log_ratio to token, or kimi.policy.form to k1.5"
        )
    elif policy.form == "k2.5" and not token_level_loss:
        yield (
            "kimi.policy.form is k2.5 without actor.loss_agg_mode token-mean: it is a mean over all tokens of the "
            "batch; set actor.loss_agg_mode to token-mean, or kimi.policy.form to k1.5"
        )
    if policy.length_normalization and policy.log_ratio != "sequence":
        yield (
            f"kimi.policy.length_normalization is true with kimi.policy.log_ratio {policy.log_ratio}: it divides the "
            "square of a whole response by its length; set one to false, or the other to sequence"
        )


def _without_effect(args) -> Iterator[str]:
    if args.kimi.policy.form == "k1.5":
        names = ("log_ratio_low", "log_ratio_high")
        yield from options.without_effect(args, "policy", names, "in kimi.policy.form k1.5; set that to k2.5")
    for key, default in NO_EFFECT.items():
        value = attrgetter(key)(args)
        if key == "actor.eps_clip_low_high" and value is not None and set(value) == {args.actor.eps_clip}:
            continue  # as OpenRLHF completes it
        if (list(value) if isinstance(value, tuple) else value) != default:
            yield (
                f"{key} is {value}: kimi-policy has a loss of its own, in which it has no effect; leave it out, or "
                "train without kimi-policy"
            )


def _baseline_problems(policy, samples_per_prompt: int) -> Iterator[str]:
    if policy.baseline.endswith("leave_one_out") and samples_per_prompt < 2 and not policy.linked_baseline:
        yield (
            f"kimi.policy.baseline is {policy.baseline} with rollout.n_samples_per_prompt {samples_per_prompt}: a "
            "response has no others to compare it with; set rollout.n_samples_per_prompt to at least 2, e.g. 8"
        )
    scaled = [
        f"kimi.policy.{name} is {getattr(policy, name)}"
        for name, default in (("baseline_scale", None), ("baseline_rises", "none"))
        if getattr(policy, name) != default
    ]
    if scaled and policy.baseline == "none":
        yield (
            f"{scaled[0]} with kimi.policy.baseline none, which has nothing to scale; set kimi.policy.baseline to "
            "mean, or leave the other out"
        )


def _reset_problems(policy) -> Iterator[str]:
    if policy.optimizer_reset == "none":
        for name, default in (("reset_every", 1), ("reset_warm_up", 0)):
            if getattr(policy, name) != default:
                yield (
                    f"kimi.policy.{name} is {getattr(policy, name)} with kimi.policy.optimizer_reset none, which does "
                    "not reset; leave it out, or set kimi.policy.optimizer_reset to all"
                )


def _auxiliary_problems(args) -> Iterator[str]:
    policy = args.kimi.policy
    if policy.ptx_dataset is None:
        names = ("ptx_coef", "ptx_rows", "ptx_input_key", "ptx_output_key")
        yield from options.without_effect(args, "policy", names, "without kimi.policy.ptx_dataset; set that")
        return
    ranks = args.actor.num_nodes * args.actor.num_gpus_per_node
    if policy.ptx_rows % max(1, ranks):
        yield (
            f"kimi.policy.ptx_rows is {policy.ptx_rows} with {ranks} ranks of the policy (actor.num_nodes × "
            "actor.num_gpus_per_node), which get equally many; set it to a multiple of that"
        )
    for key, value in (
        ("ring_attn_size", args.ds.ring_attn_size),
        ("tensor_parallel_size", args.ds.tensor_parallel_size),
    ):
        if value > 1:
            yield (
                f"kimi.policy.ptx_dataset with ds.{key} {value}: the auxiliary loss takes whole rows on every rank; "
                f"set ds.{key} to 1, or leave out kimi.policy.ptx_dataset"
            )
    if args.data.max_images_per_prompt > 0:
        yield (
            f"kimi.policy.ptx_dataset with data.max_images_per_prompt {args.data.max_images_per_prompt}: the "
            "auxiliary loss is of text, and untested beside images; leave one of the two out"
        )


def _conflicts(args) -> Iterator[str]:
    policy, algo = args.kimi.policy, args.algo
    yield from loss_problems(policy, token_level_loss=args.actor.loss_agg_mode == "token-mean")
    if policy.importance_cap and algo.advantage.is_correction_level == "off":
        yield (
            "kimi.policy.importance_cap needs the log-probs of the policies that wrote the tokens: set "
            "algo.advantage.is_correction_level to token"
        )
    if policy.importance_cap and algo.advantage.old_log_probs == "rollout":
        yield (
            "kimi.policy.importance_cap with algo.advantage.old_log_probs rollout: the policy before the update is "
            "then taken to be the one that wrote the tokens, so that every weight is 1; leave one of the two out"
        )
    yield from _baseline_problems(policy, args.rollout.n_samples_per_prompt)
    yield from _reset_problems(policy)
    yield from _auxiliary_problems(args)
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
