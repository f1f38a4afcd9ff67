"""One rank of the tests of skipped optimizer steps: python skipped_steps_worker.py DIRECTORY.

OpenRLHF's own trainer of the policy on a real DeepSpeed engine, with and without kimi-policy; RANK, WORLD_SIZE … are
set. Writes skipped_RANK.json.
"""

import json
import math
import sys

import deepspeed
import torch
import torch.distributed as dist
from leftover_worker import add_share, make_trainer, moment, weights
from openrlhf import plugins
from toy_policy import Bigram, make_rollouts

from kimi_plugins import options

ROLLOUTS, LR = 32, 0.01  # two optimizer steps an iteration
CASES = {
    "ZeRO 0": (0, ""),
    "ZeRO 1": (1, ""),
    "ZeRO 2": (2, ""),
    "ZeRO 3": (3, ""),
    "ZeRO 2, dynamic batches": (2, "--train.dynamic_batch_enable --train.max_tokens_per_gpu 60"),
}


def rollouts_of(policy, advantage=0.0):
    """Rollouts whose old log-probs are the policy's but for rounding; the last one has the advantage."""
    rollouts = make_rollouts(prompts=8, empty=())
    with torch.no_grad():
        noise = torch.randn(rollouts["old_log_probs"].shape, generator=torch.Generator().manual_seed(0))
        rollouts["old_log_probs"] = policy(rollouts["tokens"]) + 1e-6 * noise
    rollouts["advantages"] = torch.zeros_like(rollouts["advantages"])
    rollouts["advantages"][-1] = advantage
    return rollouts


def run_case(stage, flags):
    """What an iteration without any advantage changes, and then one with a single one."""
    trainer = make_trainer(stage, 2, lr=LR, flags=flags, policy=options.Policy(optimizer_reset="all", reset_warm_up=3))
    policy, result = Bigram(1, torch.float64), {}
    for name, advantage in (("none", 0.0), ("one", 1.0)):
        before = weights(trainer.actor)
        steps, lr = trainer.actor.model.global_steps, trainer.actor_scheduler.last_epoch
        add_share(trainer, rollouts_of(policy, advantage), 2)
        status = trainer.ppo_train(0.0, 1)
        trainer.replay_buffer.clear()
        result[name] = {
            "moved": (weights(trainer.actor) - before).abs().max().item(),
            "steps": trainer.actor.model.global_steps - steps,
            "schedule": trainer.actor_scheduler.last_epoch - lr,
            "logged": [status["actor_optimizer_steps"], status["actor_skipped_steps"]],
            "measured": status["kimi/kl_mean"] >= 0,
            "moment": moment(trainer.actor).abs().max().item() if name == "one" else None,
        }
    return result


def run_not_finite(stage, value):
    """What an iteration says and changes whose advantages, and so its loss, are not finite."""
    trainer, policy = make_trainer(stage, 2, lr=LR), Bigram(1, torch.float64)
    before = weights(trainer.actor)
    rollouts = rollouts_of(policy)
    rollouts["advantages"].fill_(value)
    add_share(trainer, rollouts, 2)
    said = None
    try:
        trainer.ppo_train(0.0, 1)
    except ValueError as error:
        said = str(error)
    return {"said": said, "moved": (weights(trainer.actor) - before).abs().max().item()}


def main(directory):
    torch.set_num_threads(1)
    deepspeed.init_distributed("gloo")
    results = {"without": run_case(*CASES["ZeRO 0"])}
    results |= {f"{value} {stage}": run_not_finite(stage, value) for value in (math.nan, math.inf) for stage in (0, 2)}
    plugins.load(["kimi-policy"])
    results |= {name: run_case(*case) for name, case in CASES.items()}
    with open(f"{directory}/skipped_{dist.get_rank()}.json", "w") as file:
        json.dump(results, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
