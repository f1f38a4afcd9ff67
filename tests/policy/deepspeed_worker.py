"""One rank of the DeepSpeed tests: python deepspeed_worker.py OUTPUT_DIRECTORY, with RANK, WORLD_SIZE … set.

All cases share one launch, because starting DeepSpeed costs more than running them. Writes results_RANK.json.
"""

import copy
import json
import sys
from types import SimpleNamespace

import deepspeed
import torch
import torch.distributed as dist
from openrlhf.utils.deepspeed.deepspeed_utils import get_train_ds_config
from openrlhf.utils.loss_utils import iter_grad_accum_global_norm
from toy_policy import Bigram, make_rollouts, naive_gradient, relative_error

from kimi_plugins.policy.mirror_descent import MirrorDescentLoss
from kimi_plugins.policy.optimizer_reset import reset_optimizer

LR = 1e-2
# name: (ZeRO stage, optimizer, parameter type), as OpenRLHF's flags choose them
RESET_CASES = {
    "zero 0": (0, "adam", "bf16"),
    "zero 0, fp32": (0, "adam", "fp32"),
    "zero 1": (1, "adam", "bf16"),
    "zero 2": (2, "adam", "bf16"),
    "zero 3": (3, "adam", "bf16"),
    "zero 2, muon": (2, "muon", "bf16"),
}
CUT = [[1, 5, 3], [4, 1, 2]]  # sequences in the micro-batches of each rank
MASTERS = ("fp32_groups_flat", "single_partition_of_fp32_groups", "fp32_partitioned_groups_flat")
DTYPE = {"bf16": torch.bfloat16, "fp32": torch.float32}


def make_engine(model, *, stage, optim="adam", param_dtype="bf16", micro=4, gas=1):
    adam = {"betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.01}
    optim_config = {"type": "AdamW", "params": {"lr": LR, **adam}}
    if optim == "muon":
        optim_config = {"type": "Muon", "params": {"lr": LR, "muon_lr": LR, "adam_lr": LR, "momentum": 0.9, **adam}}
    config = get_train_ds_config(False, False, stage, param_dtype, max_norm=0.0, zpg=1, optim_config=optim_config)
    # The default buckets hold 5e8 elements; filled with NaN (see main) they would take gigabytes and minutes.
    config["zero_optimization"] |= {"reduce_bucket_size": 10_000, "allgather_bucket_size": 10_000}
    config["train_micro_batch_size_per_gpu"] = micro
    config["train_batch_size"] = micro * gas * dist.get_world_size()
    engine, _, _, scheduler = deepspeed.initialize(
        model=model,
        model_parameters=[p for p in model.parameters() if p.requires_grad],
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=10),
        config=config,
        dist_init_required=False,
    )
    return engine, scheduler


def make_model(dtype):
    # Sizes that split evenly over the ranks: ZeRO 3 leaves the padding uninitialised.
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4)).to(dtype)


def update(engine, step):
    generator = torch.Generator().manual_seed(100 * step + dist.get_rank())
    x = torch.randn(4, 6, generator=generator).to(next(engine.module.parameters()).dtype)
    target = torch.randn(4, 4, generator=generator)
    engine.backward(((engine(x).float() - target) ** 2).mean())
    engine.step()


def masters(engine):
    """This rank's share of the fp32 weights the optimizer updates."""
    for name in MASTERS:
        if hasattr(engine.optimizer, name):
            return getattr(engine.optimizer, name)
    return list(engine.module.parameters())


def twin(engine, scheduler, case):
    """A freshly built engine at the same weights, fp32 masters and learning rate."""
    stage, optim, param_dtype = case
    params = list(engine.module.parameters())
    model = make_model(DTYPE[param_dtype])
    with deepspeed.zero.GatheredParameters(params, enabled=stage == 3), torch.no_grad():
        for mine, theirs in zip(model.parameters(), params, strict=True):
            mine.copy_(theirs)
    fresh, fresh_scheduler = make_engine(model, stage=stage, optim=optim, param_dtype=param_dtype)
    with torch.no_grad():
        for mine, theirs in zip(masters(fresh), masters(engine), strict=True):
            mine.copy_(theirs)
    fresh_scheduler.load_state_dict(copy.deepcopy(scheduler.state_dict()))
    for mine, theirs in zip(fresh.optimizer.param_groups, engine.optimizer.param_groups, strict=True):
        mine["lr"] = theirs["lr"]
    return fresh


def steps_of(engine):
    base = getattr(engine.optimizer, "optimizer", engine.optimizer)
    return [state["step"] for state in base.state.values() if "step" in state]


def reset_moments_only(optimizer):
    for state in getattr(optimizer, "optimizer", optimizer).state.values():
        for value in state.values():
            if torch.is_tensor(value):
                value.zero_()


def reset_case(case, reset):
    """Train, reset, train on beside a fresh engine: how far apart the masters are after each of three updates."""
    stage, optim, param_dtype = case
    engine, scheduler = make_engine(make_model(DTYPE[param_dtype]), stage=stage, optim=optim, param_dtype=param_dtype)
    for step in range(5):
        update(engine, step)
    weights = [m.detach().clone() for m in masters(engine)]
    groups = [{k: v for k, v in g.items() if k not in ("params", "step")} for g in engine.optimizer.param_groups]
    before = copy.deepcopy((groups, scheduler.state_dict()))
    reset(engine.optimizer)
    groups = [{k: v for k, v in g.items() if k not in ("params", "step")} for g in engine.optimizer.param_groups]
    fresh = twin(engine, scheduler, case)
    result = {
        "weights_kept": all(torch.equal(a, b) for a, b in zip(weights, masters(engine), strict=True)),
        "hyper_parameters_kept": (groups, scheduler.state_dict()) == before,
        "lr_of_base": LR,
        "lr_after_reset": engine.get_lr(),
        "steps": steps_of(engine),
        "difference": [],
        "moved": [],
    }
    for step in range(5, 8):
        update(engine, step)
        update(fresh, step)
        pairs = list(zip(masters(engine), masters(fresh), weights, strict=True))
        result["difference"].append(max((a - b).abs().max().item() for a, b, _ in pairs))
        result["moved"].append(max((a - w).abs().max().item() for a, _, w in pairs))
    result["lr_at_the_end"] = engine.get_lr()
    return result


def gradient_case(stage, dynamic):
    """∇ of the surrogate as DeepSpeed hands it to the optimizer, against the naive one on the whole batch."""
    rollouts = make_rollouts()
    names = ("tokens", "old_log_probs", "advantages", "action_mask")
    rank = dist.get_rank()
    start = sum(map(sum, CUT[:rank]))
    batches = []
    for size in CUT[rank]:
        batches.append({name: rollouts[name][start : start + size] for name in names})
        start += size
    gas = 1 if dynamic else len(batches)
    engine, _ = make_engine(Bigram(1), stage=stage, param_dtype="fp32", micro=1, gas=gas)
    loss_fn = MirrorDescentLoss(tau=0.3, max_log_ratio=1e6, log_ratio="sequence", token_level_loss=True)
    # The window is the whole optimizer step either way; only DeepSpeed's own 1/gas differs with dynamic batches.
    window = iter_grad_accum_global_norm(batches, SimpleNamespace(), len(batches), lambda b: b["action_mask"])
    for i, (batch, info) in enumerate(window):
        if dynamic:
            info = info | {"global_batch_size": info["global_batch_size"] * len(batches)}
            # Otherwise ZeRO 1 and 2 keep only the last micro-batch's gradient.
            engine.set_gradient_accumulation_boundary(i == len(batches) - 1)
        log_probs = engine(batch["tokens"])
        loss = loss_fn(log_probs, batch["old_log_probs"], batch["advantages"], batch["action_mask"], **info)[0]
        engine.backward(loss)
        if not dynamic or i == len(batches) - 1:
            engine.step()
    # Adam's first moment after one update is (1 − β₁) times the gradient it was given.
    parameter = engine.module.logits
    if stage:
        moment = deepspeed.utils.safe_get_full_optimizer_state(parameter, "exp_avg")
    else:
        moment = engine.optimizer.state[parameter]["exp_avg"]
    expected = naive_gradient(rollouts)
    return relative_error(moment.view_as(expected) / (1 - 0.9), expected)


def unfilled_gathers(repeats=300):
    """How many of `repeats` gatherings of all parameters at once hold memory that no rank has filled."""
    engine, _ = make_engine(make_model(torch.bfloat16), stage=3)
    parameters = list(engine.module.parameters())
    unfilled = 0
    for _ in range(repeats):
        with deepspeed.zero.GatheredParameters(parameters):
            unfilled += any(parameter.isnan().any().item() for parameter in parameters)
    return unfilled


def main(directory):
    torch.set_num_threads(1)
    # torch.empty then holds NaN: whatever reads memory before a collective has filled it is seen every time.
    torch.use_deterministic_algorithms(True)
    deepspeed.init_distributed("gloo")
    results = {"reset": {}, "gradient": {}}
    for name, case in RESET_CASES.items():
        results["reset"][name] = reset_case(case, reset_optimizer)
    results["moments only"] = reset_case(RESET_CASES["zero 2"], reset_moments_only)
    results["no reset"] = reset_case(RESET_CASES["zero 2"], lambda optimizer: None)
    results["unfilled gathers"] = unfilled_gathers()
    for stage in (0, 2, 3):
        for dynamic in (False, True):
            name = f"zero {stage}, " + ("dynamic batches" if dynamic else "gradient accumulation")
            results["gradient"][name] = gradient_case(stage, dynamic)
    with open(f"{directory}/results_{dist.get_rank()}.json", "w") as file:
        json.dump(results, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
