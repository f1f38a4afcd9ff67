"""One rank of the tests of the auxiliary SFT loss: python ptx_worker.py DIRECTORY.

OpenRLHF's own trainer of the policy on a real DeepSpeed engine with kimi-policy; RANK, WORLD_SIZE … are set.
Writes ptx_WORLD_RANK.json.
"""

import json
import sys

import deepspeed
import torch
import torch.distributed as dist
from leftover_worker import TRAIN_BATCH, add_share, expected_gradient, make_trainer, record_gradients, rollouts_of
from openrlhf import plugins
from toy_policy import VOCAB, Bigram, relative_error

from kimi_plugins import options
from kimi_plugins.policy.ptx import AuxiliaryLoss, rows_of_step

COEF, SIZE, SEED = 0.7, 6, 5
DYNAMIC = "--train.dynamic_batch_enable --train.max_tokens_per_gpu 60"
# name: (ZeRO stage, train.micro_batch_size, flags, rollouts of the iterations in turn)
CASES = {
    "large micro-batches": (0, 8, "", [16]),
    "accumulation": (0, 2, "", [16, 26]),
    "ZeRO 1": (1, 2, "", [16, 26]),
    "ZeRO 2": (2, 4, "", [16, 26]),
    "ZeRO 3": (3, 2, "", [16, 26]),
    "ZeRO 2, dynamic batches": (2, 2, DYNAMIC, [16, 16]),
}


def made_rows(count=10):
    """Rows of 4 to 13 tokens, of which the first two are the prompt."""
    generator = torch.Generator().manual_seed(3)
    rows = []
    for number in range(count):
        tokens = torch.randint(0, VOCAB, (4 + number,), generator=generator)
        rows.append((tokens, torch.arange(3 + number) >= 1))
    return rows


def sft_loss(policy, rows):
    """The mean of −log-prob over the response tokens, one row after the other."""
    log_probs = [policy(tokens[None])[0][trained] for tokens, trained in rows]
    return -torch.cat(log_probs).mean()


def run_case(stage, micro, flags, counts):
    """Of each iteration: relative error of the mean gradient, and the metric with what it should be."""
    # A learning rate of 0: the gradients of all optimizer steps are of the same policy.
    trainer = make_trainer(
        stage, micro, flags=flags, policy=options.Policy(optimizer_reset="none", ptx_dataset="rows")
    )
    trainer.actor.temperature = 0.5
    rows, taken, results = made_rows(), 0, []
    plugin = plugins._manager.get_plugin("kimi-policy")
    plugin.auxiliary = AuxiliaryLoss(trainer.actor, rows, coef=COEF, size=SIZE, micro=2, seed=SEED)
    gradients = record_gradients(trainer)
    for iteration, count in enumerate(counts):
        rollouts = rollouts_of(iteration, count)
        add_share(trainer, rollouts, micro)
        status = trainer.ppo_train(0.0, iteration + 1)
        trainer.replay_buffer.clear()
        # The mean over the iteration is that of its steps, each weighted by its number of rollouts.
        sizes = [min(TRAIN_BATCH, count - start) for start in range(0, count, TRAIN_BATCH)]
        got = sum(size * gradient for size, gradient in zip(sizes, gradients, strict=True)) / count
        policy, loss = Bigram(1, torch.float64), 0.0
        for size in sizes:
            chosen = [rows[number] for number in rows_of_step(len(rows), SIZE, taken, SEED)]
            loss, taken = loss + size / count * sft_loss(policy, chosen), taken + 1
        (COEF * loss).backward()
        want = expected_gradient(rollouts) + policy.logits.grad
        metric = [status["kimi/sft_loss"], loss.item()]
        results.append(
            {"error": relative_error(got, want), "metric": metric, "skipped": status["actor_skipped_steps"]}
        )
        gradients.clear()
    assert trainer.actor.temperature == 0.5
    return results


def main(directory):
    torch.set_num_threads(1)
    deepspeed.init_distributed("gloo")
    plugins.load(["kimi-policy"])
    results = {name: run_case(*case) for name, case in CASES.items()}
    with open(f"{directory}/ptx_{dist.get_world_size()}_{dist.get_rank()}.json", "w") as file:
        json.dump(results, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
