"""Sizes that have to divide each other: groups, rollout batches, micro-batches, data-parallel ranks."""

import math
import os
from collections.abc import Iterator
from itertools import pairwise
from operator import attrgetter

TRAINER_SIZES = ("train.batch_size", "train.micro_batch_size", "ds.ring_attn_size", "ds.tensor_parallel_size")
RL_SIZES = (
    *TRAINER_SIZES,
    "rollout.batch_size",
    "rollout.micro_batch_size",
    "rollout.n_samples_per_prompt",
    "vllm.num_engines",
    "vllm.tensor_parallel_size",
)
GROUP_BASELINES = ("rloo", "reinforce_baseline", "group_norm", "dr_grpo")


def groups(args) -> dict[str, int]:
    """Ranks of each group of Ray actors that the RL trainer starts."""
    used = {
        "actor": True,
        "ref": args.algo.kl.init_coef > 0,
        "critic": args.algo.advantage.estimator == "gae",
        "reward": not (args.reward.remote_url or args.train.agent_func_path),
    }
    members = {name: getattr(args, name) for name in used if used[name]}
    return {name: member.num_nodes * member.num_gpus_per_node for name, member in members.items()}


def model_parallel(args) -> int:
    """Ranks that work on one sample together."""
    return args.ds.ring_attn_size * args.ds.tensor_parallel_size


def trainer_ranks() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def micro_batches(rollouts: int, ranks: int, args) -> list[int]:
    """Training micro-batches of each of `ranks` data-parallel ranks.

    OpenRLHF deals out whole rollout micro-batches in runs of equal length, so that the last ranks can get fewer.
    """
    size = args.rollout.micro_batch_size
    run = math.ceil(math.ceil(rollouts / size) / ranks) * size
    bounds = [min(rollouts, rank * run) for rank in range(ranks + 1)]
    return [(end - start) // args.train.micro_batch_size for start, end in pairwise(bounds)]


def splits(rollouts: int, ranks: int, args) -> bool:
    """Whether every rank gets rollouts, and equally many micro-batches: else they fail, or wait for each other."""
    lists = math.ceil(rollouts / args.rollout.micro_batch_size)
    return lists >= ranks and len(set(micro_batches(rollouts, ranks, args))) == 1


def _below_one(args, keys) -> Iterator[str]:
    for key in keys:
        value = attrgetter(key)(args)
        if value is None or value < 1:
            yield f"{key}: {value}; set it to 1 or more"


def check_trainer_sizes(args) -> Iterator[str]:
    yield from _below_one(args, TRAINER_SIZES)


def check_rl_sizes(args) -> Iterator[str]:
    keys = [f"{name}.{size}" for name in groups(args) for size in ("num_nodes", "num_gpus_per_node")]
    yield from _below_one(args, (*RL_SIZES, *keys))


def _fit(batch: int, unit: int, rollouts: int | None = None) -> str:
    """The multiple of `unit` nearest to `batch`, which divides the rollouts if there are any."""
    if rollouts is None:
        return f"set it to {max(1, round(batch / unit)) * unit}, for example"
    sizes = [size for size in range(unit, rollouts + 1, unit) if rollouts % size == 0]
    if not sizes:
        return f"choose rollouts that are a multiple of {unit}, or lower train.micro_batch_size"
    return f"set it to {min(sizes, key=lambda size: abs(size - batch))}, for example"


def _check_ranks(name: str, ranks: int, gradient_accumulation: bool, args, rollouts: int | None = None):
    batch, micro = args.train.batch_size, args.train.micro_batch_size
    replicas = ranks // model_parallel(args)
    if ranks % model_parallel(args):
        yield (
            f"ds.tensor_parallel_size: {args.ds.tensor_parallel_size} × ds.ring_attn_size {args.ds.ring_attn_size} "
            f"does not divide the {ranks} {name} ranks; change one of them"
        )
    elif gradient_accumulation and batch % (micro * replicas):
        yield (
            f"train.batch_size: {batch} is no multiple of train.micro_batch_size {micro} × {replicas} data-parallel "
            f"{name} ranks, as DeepSpeed asks; {_fit(batch, micro * replicas, rollouts)}"
        )


def check_trainer_batches(args) -> Iterator[str]:
    yield from _check_ranks("trainer", trainer_ranks(), True, args)


def check_rollout_batches(args) -> Iterator[str]:
    batch, samples = args.train.batch_size, args.rollout.n_samples_per_prompt
    rollouts = args.rollout.batch_size * samples
    dynamic = args.train.dynamic_batch_enable
    for name, ranks in groups(args).items():
        # With dynamic batches DeepSpeed still checks the sizes of the engines that only run forward.
        yield from _check_ranks(name, ranks, not dynamic or name in ("ref", "reward"), args, rollouts)
    replicas = groups(args)["actor"] // model_parallel(args)
    unit = max(1, replicas) * args.train.micro_batch_size
    if rollouts % batch:
        yield (
            f"train.batch_size: {batch} does not divide the {rollouts} rollouts of an iteration (rollout.batch_size "
            f"{args.rollout.batch_size} × {samples} samples), so the rest would be dropped or leak into the next "
            f"iteration's update; {_fit(batch, unit, rollouts)}"
        )
    elif replicas > 1 and not dynamic and not splits(rollouts, replicas, args):
        yield (
            f"rollout.micro_batch_size: {args.rollout.micro_batch_size} × {replicas} data-parallel ranks does not "
            f"divide the {rollouts} rollouts of an iteration: ranks with more of them would wait for the others for "
            f"ever; set it to {math.gcd(rollouts // replicas, args.rollout.micro_batch_size)}"
        )
