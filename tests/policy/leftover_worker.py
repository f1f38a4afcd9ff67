"""One rank of the tests of iterations with fewer rollouts than others: python leftover_worker.py DIRECTORY.

OpenRLHF's own trainer of the policy on a real DeepSpeed engine; RANK, WORLD_SIZE … are set.
Writes rest_WORLD_RANK.json.
"""

import json
import sys
from types import SimpleNamespace

import deepspeed
import torch
import torch.distributed as dist
from adapters import adapter_case
from openrlhf.cli.train_ppo_ray import get_parser
from openrlhf.models import Actor
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import even_batch_sizes
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer
from openrlhf.utils import get_strategy
from openrlhf.utils.config import hierarchize
from torch import nn
from toy_policy import Bigram, make_rollouts, naive_gradient, relative_error

from kimi_plugins.policy.mirror_descent import MirrorDescentLoss

TRAIN_BATCH = 16
BETA = 0.9
# name: (ZeRO stage, train.micro_batch_size, rollouts of the iterations in turn)
CASES = {
    "micro-batches larger than the rest": (0, 8, [5, 16]),
    "micro-batches smaller than the rest": (0, 2, [10, 16]),
    "a rest that ranks cannot share evenly": (0, 2, [7, 16]),
    "fewer rollouts than ranks": (0, 4, [1, 16]),
    "more than one optimizer step": (0, 4, [26, 16]),
    "ZeRO 2": (2, 2, [7, 16]),
    "ZeRO 3": (3, 2, [7, 16]),
}


class ToyActor(Actor):
    """The bigram policy behind the interface of OpenRLHF's actor."""

    def __init__(self, seed=1) -> None:
        nn.Module.__init__(self)
        self.model = Bigram(seed)

    def forward(self, sequences, action_mask, **kwargs):
        return self.model(sequences)[:, -action_mask.shape[1] :], None


def make_trainer(stage, micro, *, lr=0.0, flags="", policy=None):
    """OpenRLHF's trainer of the policy; policy: the options of kimi-policy, if that plugin is loaded."""
    words = f"--ds.zero_stage {stage} --train.micro_batch_size {micro} --train.batch_size {TRAIN_BATCH} "
    words += f"--ds.param_dtype fp32 --vllm.sync_backend gloo --actor.eps_clip_low_high 0.2 0.2 {flags}"
    args = hierarchize(get_parser().parse_args(words.split()))
    args.kimi = SimpleNamespace(policy=policy)
    strategy = get_strategy(args)
    strategy.setup_distributed()
    actor = ToyActor()
    # At a learning rate of 0 every step's gradient is that of the same policy.
    adam = {"lr": lr, "betas": (BETA, 0.95), "eps": 1e-8, "weight_decay": 0.0}
    settings = {"optim": "adam", "muon": {}, "adam": adam, "lr_scheduler": "constant", "max_norm": 0.0}
    actor, optim, scheduler = strategy.prepare((actor, settings | {"scheduler_steps": 10}))
    trainer = ActorPPOTrainer(strategy, actor, None, optim, scheduler, micro_train_batch_size=micro)
    trainer.actor_loss_fn = MirrorDescentLoss(tau=0.3, max_log_ratio=1e6, log_ratio="sequence", token_level_loss=False)
    return trainer


def moment(actor):
    """Adam's first moment after n updates: (1 − β) Σ β^(n−i) gradient_i."""
    engine, parameter = actor.model, actor.model.module.logits
    if engine.zero_optimization_stage():
        return deepspeed.utils.safe_get_full_optimizer_state(parameter, "exp_avg").clone()
    state = engine.optimizer.state[parameter]
    return state["exp_avg"].clone()


def rollouts_of(iteration, count):
    """`count` rollouts, others for each iteration."""
    everything = make_rollouts(prompts=18, empty=())
    start = 28 * iteration
    return {name: value[start : start + count] for name, value in everything.items() if name != "rewards"}


def expected_gradient(rollouts):
    """∇ of the mean of the surrogates of single responses: the advantages are given, the groups do not matter."""
    policy = Bigram(1, torch.float64)
    log_probs = policy(rollouts["tokens"])
    mask, nothing = rollouts["action_mask"], log_probs.new_zeros(())
    ratios = torch.where(mask, log_probs - rollouts["old_log_probs"], nothing).sum(-1)
    advantages = torch.where(mask, rollouts["advantages"], nothing).sum(-1) / mask.sum(-1)
    ((advantages - 0.3 * ratios) ** 2).mean().backward()
    return policy.logits.grad


def add_share(trainer, rollouts, micro):
    """Give this rank what the controller would deal out to it."""
    count, rank, world = len(rollouts["tokens"]), dist.get_rank(), dist.get_world_size()
    sizes = even_batch_sizes(count, micro, world)
    per_rank = [len(sizes) * r // world for r in range(world + 1)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    for i in range(per_rank[rank], per_rank[rank + 1]):
        own = slice(starts[i], starts[i] + sizes[i])
        attention = torch.arange(rollouts["tokens"].shape[1]) <= rollouts["lengths"][own].unsqueeze(-1)
        trainer.replay_buffer.append(
            Experience(
                sequences=rollouts["tokens"][own],
                attention_mask=attention.long(),
                action_mask=rollouts["action_mask"][own],
                action_log_probs=rollouts["old_log_probs"][own].float(),
                advantages=rollouts["advantages"][own].float(),
                total_length=rollouts["lengths"][own] + 1,
                info={"index": torch.arange(own.start, own.stop).float()},
            )
        )


def record_gradients(trainer):
    """The list to which every optimizer step from now on adds the gradient it was given."""
    gradients, before = [], [0.0]
    engine, step = trainer.actor.model, trainer.strategy.optimizer_step

    def recorded(*args, **kwargs):
        steps = engine.global_steps
        step(*args, **kwargs)
        if engine.global_steps > steps:
            after = moment(trainer.actor)
            gradients.append((after - BETA * before[0]) / (1 - BETA))
            before[0] = after

    trainer.strategy.optimizer_step = recorded
    return gradients


def run_case(stage, micro, counts):
    """For each iteration: optimizer steps, relative error of the gradient, mean of a metric and what it should be."""
    trainer = make_trainer(stage, micro)
    gradients, results = record_gradients(trainer), []
    for iteration, count in enumerate(counts):
        rollouts = rollouts_of(iteration, count)
        add_share(trainer, rollouts, micro)
        status = trainer.ppo_train(0.0)
        trainer.replay_buffer.clear()
        # The mean over the iteration is that of its steps, each weighted by its number of rollouts.
        sizes = [min(TRAIN_BATCH, count - start) for start in range(0, count, TRAIN_BATCH)]
        got = sum(size * gradient for size, gradient in zip(sizes, gradients, strict=True)) / count
        error = relative_error(got, expected_gradient(rollouts))
        results.append({"error": error, "metric": [status["index"], (count - 1) / 2]})
        gradients.clear()
    return results


def weights(actor):
    parameter = actor.model.module.logits
    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().clone()


def average_case(stage, directory):
    """Differences of the moving average from the formula: after two steps, and of what a checkpoint restores."""
    trainer = make_trainer(stage, 4)
    strategy, policy = trainer.strategy, Bigram(1).logits.detach()
    averaged, restored = strategy.prepare(ToyActor(2)), strategy.prepare(ToyActor(3))
    for _ in range(2):
        strategy.moving_average(trainer.actor, averaged, 0.9)
    directory = f"{directory}/averaged_{dist.get_world_size()}_{stage}"
    strategy.save_ckpt(trainer.actor.model, directory, "global_step1", averaged=averaged)
    strategy.load_averaged(restored, f"{directory}/global_step1")
    want = 0.81 * Bigram(2).logits.detach() + 0.19 * policy
    return [(weights(model) - want).abs().max().item() for model in (averaged, restored)]


def main(directory):
    torch.set_num_threads(1)
    deepspeed.init_distributed("gloo")
    assert (
        relative_error(
            expected_gradient(make_rollouts(empty=())),
            naive_gradient(make_rollouts(empty=()), token_level_loss=False),
        )
        < 1e-6
    )
    results = {name: run_case(*case) for name, case in CASES.items()}
    results |= {f"average, ZeRO {stage}": average_case(stage, directory) for stage in (0, 2, 3)}
    results |= {f"adapters, ZeRO {stage}": adapter_case(stage, directory) for stage in (0, 1, 2, 3)}
    with open(f"{directory}/rest_{dist.get_world_size()}_{dist.get_rank()}.json", "w") as file:
        json.dump(results, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
