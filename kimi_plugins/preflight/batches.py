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


def check_response_room(args) -> Iterator[str]:
    longest, context = args.rollout.max_new_tokens, args.data.max_len
    if longest is not None and longest >= context:
        yield (
            f"rollout.max_new_tokens: {longest} leaves no room for a prompt in data.max_len {context}; lower it, "
            "raise data.max_len, or leave it out for what a prompt leaves"
        )


def check_async(args) -> Iterator[str]:
    """What OpenRLHF's asynchronous trainer does not do."""
    if not args.train.async_enable:
        return
    fix = "leave it out, or train.async_enable"
    if args.vllm.max_restarts:
        yield f"vllm.max_restarts: {args.vllm.max_restarts}: no engine can be restarted with train.async_enable; {fix}"
    if args.train.full_determinism_enable:
        yield f"train.full_determinism_enable: has no effect on the rollouts with train.async_enable; {fix}"
    if args.eval.before_training:
        yield f"eval.before_training: has no effect with train.async_enable; {fix}"
    generated = args.rollout.vllm_generate_batch_size
    if generated not in (None, args.rollout.batch_size) and args.ckpt.save_steps > 0:
        yield (
            f"rollout.vllm_generate_batch_size: {generated} with train.async_enable and checkpoints (ckpt.save_steps "
            f"{args.ckpt.save_steps}): a resumed run would lose the samples generated beyond a batch; {fix}"
        )


def check_optimizer(args) -> Iterator[str]:
    """Settings of DeepSpeed that it accepts and that train nothing, or end the run when its engine is built."""
    for name in ("actor", "critic"):
        if name in groups(args) and getattr(args, name).optim == "muon":
            yield from _check_muon(name, args)
    for name, ranks in groups(args).items():
        if args.ds.zero_stage == 3 and args.ds.zpg > 1 and (args.ds.zpg > ranks or ranks % args.ds.zpg):
            yield (
                f"ds.zpg: {args.ds.zpg} does not divide the {ranks} {name} ranks; set it to those of a machine, or "
                "leave it out"
            )
    if args.ds.enable_sleep and args.ds.zero_stage == 0:
        yield (
            "ds.enable_sleep: the optimizer of ds.zero_stage 0 has no states that DeepSpeed could move; set "
            "ds.zero_stage to 1 or more, or leave it out"
        )
    kind, gradients = args.ds.param_dtype, args.ds.grad_accum_dtype
    if gradients not in (None, kind) and args.ds.zero_stage == 0:
        yield (
            f"ds.grad_accum_dtype: {gradients} with ds.param_dtype {kind} does not work with ds.zero_stage 0; set "
            "ds.zero_stage to 1 or more, or leave it out"
        )


def _check_muon(name: str, args) -> Iterator[str]:
    if args.ds.zero_stage == 0:
        yield (
            f"{name}.optim: muon with ds.zero_stage 0 is plain SGD in DeepSpeed, at Muon's learning rate; set "
            "ds.zero_stage to 1 or 2"
        )
    chosen = getattr(args, name)
    if chosen.muon.ns_steps != 5 or not chosen.muon.nesterov:
        yield (
            f"{name}.muon: ns_steps {chosen.muon.ns_steps} and nesterov {str(chosen.muon.nesterov).lower()} have no "
            "effect: DeepSpeed's Muon always takes 5 and true; leave them out"
        )


def check_adapters(args) -> Iterator[str]:
    """Settings that RL with LoRA adapters cannot have."""
    if args.ds.load_in_4bit:
        yield (
            "ds.load_in_4bit: adapters of 4-bit weights cannot be merged into what the engines get, and bitsandbytes "
            "needs a GPU; leave it out, for LoRA on whole weights (ds.lora.rank)"
        )
    if not args.ds.lora.rank:
        return
    if args.train.enable_ema:
        yield "train.enable_ema: the averaged model has no adapters (ds.lora.rank); leave one of them out"
    if args.ds.tensor_parallel_size > 1:
        yield (
            f"ds.tensor_parallel_size: {args.ds.tensor_parallel_size}: was never tried with adapters (ds.lora.rank); "
            "set it to 1, and ds.zero_stage to 3 for large models"
        )


def check_rollout_batches(args) -> Iterator[str]:
    dynamic, rollout = args.train.dynamic_batch_enable, args.rollout
    generated = rollout.vllm_generate_batch_size
    if generated is not None and 1 <= generated < rollout.batch_size:
        yield (
            f"rollout.vllm_generate_batch_size: {generated} is less than rollout.batch_size {rollout.batch_size}, "
            f"which an iteration would never have; set rollout.batch_size to {generated}, or leave this out"
        )
    for name, ranks in groups(args).items():
        # With dynamic batches DeepSpeed still checks the sizes of the engines that only run forward.
        yield from _check_ranks(name, ranks, not dynamic or name in ("ref", "reward"), args)
