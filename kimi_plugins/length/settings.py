"""What the length reward needs of the configuration, checked before the run starts (k1.5 §2.3.3)."""

from collections.abc import Iterator

from kimi_plugins import options


def problems(args) -> list[str]:
    """What is wrong with the options of the length reward, each alone and together."""
    return [*options.invalid(args, "length"), *_conflicts(args)]


def _conflicts(args) -> Iterator[str]:
    length = args.kimi.length
    if length.weight == 0:
        names = ("warm_up_steps", "ramp_steps", "wrong")
        yield from options.without_effect(args, "length", names, "with kimi.length.weight 0; raise that")
    if length.budget_penalty and length.budget is None and length.budget_key is None:
        yield (
            f"kimi.length.budget_penalty is {length.budget_penalty} without a budget: set kimi.length.budget to a "
            "number of tokens, or kimi.length.budget_key to the column that holds each prompt's"
        )
    for name in ("budget", "budget_key"):
        if getattr(length, name) is not None and not length.budget_penalty:
            yield (
                f"kimi.length.{name} is {getattr(length, name)} and kimi.length.budget_penalty 0, so that it does "
                "nothing; set the penalty, e.g. to 0.5"
            )
    longest = args.rollout.max_new_tokens
    if length.budget is not None and longest is not None and length.budget >= longest:
        yield (
            f"kimi.length.budget is {length.budget}: no response is longer than rollout.max_new_tokens {longest}; set "
            "it lower"
        )
    if args.reward.model_name_or_path and not args.reward.remote_url and not args.train.agent_func_path:
        yield (
            f"reward.model_name_or_path is {args.reward.model_name_or_path}: a reward model's scores do not say which "
            "responses are right, which kimi-length must know; use a reward function, or leave out kimi-length"
        )
    if args.rollout.n_samples_per_prompt < 2:
        yield (
            f"rollout.n_samples_per_prompt is {args.rollout.n_samples_per_prompt}: lengths are compared within the "
            "responses of a prompt, so it takes at least 2, e.g. 8"
        )
