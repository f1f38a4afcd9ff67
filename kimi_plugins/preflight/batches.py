"""Sizes that have to divide each other: groups, rollout batches, micro-batches, data-parallel ranks."""

import os
from collections.abc import Iterator
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


def _check_ranks(name: str, ranks: int, gradient_accumulation: bool, args) -> Iterator[str]:
    batch, micro = args.train.batch_size, args.train.micro_batch_size
    replicas = ranks // model_parallel(args)
    unit = micro * replicas
    if ranks % model_parallel(args):
        yield (
            f"ds.tensor_parallel_size: {args.ds.tensor_parallel_size} × ds.ring_attn_size {args.ds.ring_attn_size} "
            f"does not divide the {ranks} {name} ranks; change one of them"
        )
    elif gradient_accumulation and batch % unit:
        yield (
            f"train.batch_size: {batch} is not a multiple of train.micro_batch_size {micro} × {replicas} "
            f"data-parallel {name} ranks, as DeepSpeed requires; set it to {max(1, round(batch / unit)) * unit}, for "
            "example"
        )


def check_trainer_batches(args) -> Iterator[str]:
    yield from _check_ranks("trainer", trainer_ranks(), True, args)


def check_rollout_batches(args) -> Iterator[str]:
    dynamic = args.train.dynamic_batch_enable
    for name, ranks in groups(args).items():
        # With dynamic batches DeepSpeed still checks the sizes of the engines that only run forward.
        yield from _check_ranks(name, ranks, not dynamic or name in ("ref", "reward"), args)
