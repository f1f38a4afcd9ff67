"""What partial rollouts and a falling temperature need of the configuration, checked before the run starts."""

from collections.abc import Iterator
from dataclasses import fields

from kimi_plugins import options
from kimi_plugins.rollout import temperature


def problems(args) -> list[str]:
    """Settings of the rollouts that cannot work, or that have no effect."""
    if args.kimi.rollout.segment_tokens is not None:
        return [*options.invalid(args, "rollout"), *temperature.problems(args), *_conflicts(args)]
    others = [field.name for field in fields(options.Rollout) if not field.name.startswith("temperature")]
    return [
        *options.invalid(args, "rollout"),
        *temperature.problems(args),
        *options.without_effect(args, "rollout", others, "without kimi.rollout.segment_tokens; set that"),
    ]


def _conflicts(args) -> Iterator[str]:
    chosen, rollout = args.kimi.rollout, args.rollout
    segment = chosen.segment_tokens
    if segment < 1:
        pass
    elif segment > args.data.max_len:
        yield (
            f"kimi.rollout.segment_tokens is {segment}, more than the context (data.max_len {args.data.max_len}): "
            "nothing would ever be cut; lower it, or leave it out for whole rollouts"
        )
    elif segment < rollout.min_new_tokens:
        yield (
            f"kimi.rollout.segment_tokens is {segment}, less than the shortest response allowed "
            f"(rollout.min_new_tokens {rollout.min_new_tokens}); raise it to that"
        )
    elif rollout.max_new_tokens is not None and segment >= rollout.max_new_tokens:
        yield (
            f"kimi.rollout.segment_tokens is {segment}, and responses have at most {rollout.max_new_tokens} tokens "
            "(rollout.max_new_tokens): nothing would ever be cut; lower it, or leave it out for whole rollouts"
        )
    elif chosen.max_age >= 1 and chosen.max_age * segment < (rollout.max_new_tokens or 0):
        yield (
            f"kimi.rollout.max_age {chosen.max_age} ends responses after {chosen.max_age * segment} tokens, of "
            f"rollout.max_new_tokens {rollout.max_new_tokens} allowed (kimi.rollout.segment_tokens {segment} an "
            f"iteration); raise it to {-(-rollout.max_new_tokens // segment)}, or lower rollout.max_new_tokens"
        )
    if not chosen.repetition_tokens:
        names = ("repetition_count", "repetition_period", "repetition_penalty")
        yield from options.without_effect(args, "rollout", names, "without kimi.rollout.repetition_tokens; set that")
    if chosen.held_limit < max(1, chosen.in_flight):
        yield f"kimi.rollout.held_limit is {chosen.held_limit}: it must be at least kimi.rollout.in_flight"
    if chosen.overlap and chosen.train_on == "newest":
        yield (
            "kimi.rollout.overlap with kimi.rollout.train_on newest: the current policy writes next to nothing, so "
            "next to nothing would be trained on; turn one of the two off"
        )
    if args.algo.advantage.old_log_probs == "rollout":
        yield (
            "algo.advantage.old_log_probs rollout with kimi.rollout.segment_tokens: a response would be compared with "
            "the policies that wrote its pieces, not with the one before the update; set it to actor"
        )
    if chosen.overlap and args.vllm.enable_sleep:
        yield (
            "kimi.rollout.overlap with vllm.enable_sleep: the engines are to write while they sleep; turn one of the "
            "two off (engines and training then share the memory)"
        )
    if args.train.agent_func_path:
        yield (
            "train.agent_func_path: partial rollouts go on with one response; a multi-turn agent's turns cannot be "
            "taken up again. Leave out kimi.rollout.segment_tokens, or the agent"
        )
    if args.train.async_enable:
        yield ("train.async_enable: partial rollouts belong to the synchronous loop; turn one of the two off")
    if rollout.vllm_generate_batch_size not in (None, rollout.batch_size):
        yield (
            f"rollout.vllm_generate_batch_size is {rollout.vllm_generate_batch_size}: with partial rollouts "
            "kimi.rollout.in_flight says how many prompts are in flight; leave it out"
        )
    if args.train.full_determinism_enable and (rollout.temperature not in (0, 1) or rollout.top_p != 1):
        yield (
            f"train.full_determinism_enable with rollout.temperature {rollout.temperature} and rollout.top_p "
            f"{rollout.top_p}: responses that go on are seeded by their position, for which both must be 1"
        )


def engine_args(args) -> dict | None:
    """Under full determinism, tokens are drawn by trajectory and position (see noise.py), from unchanged log-probs."""
    if args.kimi.rollout.segment_tokens is None or not args.train.full_determinism_enable:
        return None
    return {"logits_processors": ["kimi_plugins.rollout.noise:PlacedNoise"], "logprobs_mode": "raw_logprobs"}
