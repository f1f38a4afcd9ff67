"""A sampling temperature that falls over a run (K2 report): a function of the step, so a resume needs no state."""

from collections.abc import Iterator


def temperature_at(step: int, *, start: float, end: float, iterations: int) -> float:
    """`start` in step 1, `end` from step number `iterations` (≥ 2) on, linear in between."""
    passed = min(step - 1, iterations - 1) / (iterations - 1)
    return (1 - passed) * start + passed * end


def of_step(step: int, args) -> float | None:
    """The temperature of a step's rollouts and log-probs; None where it is rollout.temperature throughout."""
    chosen = args.kimi.rollout
    if chosen.temperature_end is None:
        return None
    return temperature_at(
        step, start=args.rollout.temperature, end=chosen.temperature_end, iterations=chosen.temperature_iterations
    )


def metrics(step: int, args) -> dict[str, float]:
    temperature = of_step(step, args)
    return {} if temperature is None else {"kimi/temperature": temperature}


def problems(args) -> Iterator[str]:
    """What is wrong with a falling temperature, or would have a response written at several of them."""
    chosen, rollout = args.kimi.rollout, args.rollout
    end, iterations = chosen.temperature_end, chosen.temperature_iterations
    if end is None:
        if iterations is not None:
            yield (
                f"kimi.rollout.temperature_iterations is {iterations}: it has no effect without "
                "kimi.rollout.temperature_end; set that, or leave this out"
            )
        return
    if end >= rollout.temperature:
        yield (
            f"kimi.rollout.temperature_end is {end}: it must be below rollout.temperature {rollout.temperature}, from "
            "which it falls; lower it, or raise rollout.temperature"
        )
    if iterations is None:
        yield (
            f"kimi.rollout.temperature_end is {end} without kimi.rollout.temperature_iterations; set that to the "
            "number of iterations over which the temperature falls, or leave this out"
        )
    for key, value, why in (
        ("kimi.rollout.segment_tokens", chosen.segment_tokens, "a response is written over several iterations"),
        ("train.async_enable", args.train.async_enable or None, "responses are written during other iterations"),
        (
            "rollout.vllm_generate_batch_size",
            None if rollout.vllm_generate_batch_size == rollout.batch_size else rollout.vllm_generate_batch_size,
            "responses wait for later iterations",
        ),
    ):
        if value is not None:
            yield (
                f"{key} is {value} with kimi.rollout.temperature_end: {why}, whose temperature and log-probs are "
                "others; leave one of the two out"
            )
