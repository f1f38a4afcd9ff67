"""What the length reward needs of the configuration, checked before the run starts (k1.5 §2.3.3)."""

from collections.abc import Iterator

from kimi_plugins import options


def problems(args) -> list[str]:
    return list(_problems(args))


def _problems(args) -> Iterator[str]:
    yield from options.invalid(args, "length")
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
