"""What the length reward needs of the configuration, checked before the run starts (k1.5 §2.3.3)."""

import math
from collections.abc import Iterator


def problems(args) -> list[str]:
    return list(_problems(args))


def _problems(args) -> Iterator[str]:
    length = args.kimi.length
    if not 0 <= length.weight < math.inf:
        yield f"kimi.length.weight is {length.weight}: it must be a finite number ≥ 0, e.g. 0.2; 0 is off"
    elif length.weight >= 2:
        yield (
            f"kimi.length.weight is {length.weight}: from 2 on the longest right response earns no more than a wrong "
            "one; set it below 2"
        )
    for name in ("warm_up_steps", "ramp_steps"):
        if getattr(length, name) < 0:
            yield f"kimi.length.{name} is {getattr(length, name)}: it must be a number of steps ≥ 0"
    if length.correct_from is not None and not 0 < length.correct_from < math.inf:
        yield f"kimi.length.correct_from is {length.correct_from}: it must be a score above 0, e.g. 0.99"
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
