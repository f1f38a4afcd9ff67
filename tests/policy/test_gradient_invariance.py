"""The same gradient, to 1e-5, however the batch is cut: micro-batches, data-parallel ranks, dynamic batches.

Real gloo processes and OpenRLHF's own normalisation and replay buffer; the yardstick is the naive surrogate on the
whole batch in float64. Gradients are averaged over the ranks, as DDP and DeepSpeed do.
"""

import itertools
import os
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from toy_policy import LOSSES, Bigram, make_rollouts, naive_gradient, relative_error

from kimi_plugins.policy.mirror_descent import MirrorDescentLoss

pytestmark = pytest.mark.slow  # the ranks import DeepSpeed

TAU = 0.3
WORLD = 2
# Sizes of the micro-batches, rank after rank: groups of 4 are cut, ranks and micro-batches are uneven.
CUTS = {
    "whole batch": [[16]],
    "3 uneven micro-batches": [[2, 9, 5]],
    "2 ranks": [[8], [8]],
    "2 ranks, 3 uneven micro-batches": [[1, 5, 3], [4, 1, 2]],
}


def _loss(form):
    return MirrorDescentLoss(tau=TAU, max_log_ratio=1e6, **{"token_level_loss": True} | LOSSES[form])


def _micro_batches(rollouts, cut, rank):
    start = sum(map(sum, cut[:rank]))
    for size in cut[rank]:
        yield {name: value[start : start + size] for name, value in rollouts.items() if name != "rewards"}
        start += size


def _backward(policy, form, batch, info, scale=1):
    log_probs = policy(batch["tokens"])
    names = ("old_log_probs", "advantages", "action_mask")
    loss = _loss(form)(log_probs, *(batch[name] for name in names), **info)[0]
    (loss / scale).backward()


def _accumulated_gradient(rollouts, form, cut, rank, group):
    from openrlhf.utils.loss_utils import iter_grad_accum_global_norm

    gas = len(cut[0])
    policy = Bigram(1)
    strategy = SimpleNamespace(ds_device_mesh={"dp": SimpleNamespace(get_group=lambda: group)})
    batches = list(_micro_batches(rollouts, cut, rank))
    for batch, info in iter_grad_accum_global_norm(batches, strategy, gas, lambda batch: batch["action_mask"]):
        _backward(policy, form, batch, info, scale=gas)  # DeepSpeed scales every loss by 1/gas
    return policy.logits.grad


def _dynamic_gradient(rollouts, form, world, rank, group):
    from openrlhf.trainer.ppo_utils.experience import Experience
    from openrlhf.trainer.ppo_utils.replay_buffer import NaiveReplayBuffer
    from openrlhf.utils.loss_utils import get_loss_batch_info

    buffer = NaiveReplayBuffer(sample_batch_size=1, dynamic_batch=True)
    share = {name: value.chunk(world)[rank] for name, value in rollouts.items() if name != "rewards"}
    attention = torch.arange(share["tokens"].shape[1]) <= share["lengths"].unsqueeze(-1)
    buffer.append(
        Experience(
            sequences=share["tokens"],
            attention_mask=attention.long(),
            action_mask=share["action_mask"],
            action_log_probs=share["old_log_probs"],
            advantages=share["advantages"],
            total_length=share["lengths"] + 1,
        )
    )
    size = len(rollouts["tokens"])

    def all_reduce(tensor, op):
        assert op == "max"
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=group)
        return tensor

    strategy = SimpleNamespace(
        args=SimpleNamespace(
            train=SimpleNamespace(batch_size=size, max_tokens_per_gpu=48),
            rollout=SimpleNamespace(batch_size=size // 4, n_samples_per_prompt=4),
            ds=SimpleNamespace(ring_attn_size=1, tensor_parallel_size=1),
        ),
        ds_device_mesh={"dp": SimpleNamespace(get_group=lambda: group)},
        all_reduce=all_reduce,
    )
    buffer.setup_dynamic_batch(strategy)
    assert len(buffer) > 2 and buffer.dynamic_optimizer_step == [0] * (len(buffer) - 1) + [1]
    assert len({len(indices) for indices in buffer.dynamic_indices}) > 1  # uneven micro-batches

    policy = Bigram(1)
    for step in range(len(buffer)):
        exp = buffer.collate_fn([buffer[step]])
        info = get_loss_batch_info(strategy, exp.action_mask, replay_buffer=buffer, step=step, dynamic_batch=True)
        batch = {
            "tokens": exp.sequences,
            "old_log_probs": exp.action_log_probs,
            "advantages": exp.advantages,
            "action_mask": exp.action_mask,
        }
        _backward(policy, form, batch, info)  # gas is 1 with dynamic batches
    return policy.logits.grad


def _averaged(gradient, group):
    dist.all_reduce(gradient, group=group)
    return gradient / dist.get_world_size(group)


def _rank_main(rank, directory):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=WORLD)
    alone, _ = [dist.new_group([r]) for r in range(WORLD)]
    gradients = {}
    for form, baseline in itertools.product(LOSSES, ("mean", "log_z_leave_one_out")):
        rollouts = make_rollouts(baseline=baseline, tau=TAU)
        rollouts = {name: v.float() if v.is_floating_point() else v for name, v in rollouts.items()}
        for name, cut in CUTS.items():
            if rank < len(cut):
                group = dist.group.WORLD if len(cut) > 1 else alone
                gradients[name, form, baseline] = _averaged(
                    _accumulated_gradient(rollouts, form, cut, rank, group), group
                )
        for world in (1, 2):
            if rank < world:
                group = dist.group.WORLD if world > 1 else alone
                gradient = _averaged(_dynamic_gradient(rollouts, form, world, rank, group), group)
                gradients[f"dynamic batches, {world} ranks", form, baseline] = gradient
    if rank == 0:
        torch.save(gradients, f"{directory}/gradients.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def gradients(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ranks")
    mp.spawn(_rank_main, args=(str(directory),), nprocs=WORLD)
    return torch.load(f"{directory}/gradients.pt")


@pytest.mark.parametrize("baseline", ["mean", "log_z_leave_one_out"])
@pytest.mark.parametrize("form", LOSSES)
@pytest.mark.parametrize("cut", [*CUTS, "dynamic batches, 1 ranks", "dynamic batches, 2 ranks"])
def test_gradient_does_not_depend_on_the_cut(gradients, cut, form, baseline):
    rollouts = make_rollouts(baseline=baseline, tau=TAU)
    want = naive_gradient(rollouts, **LOSSES[form], baseline=baseline, tau=TAU)
    assert relative_error(gradients[cut, form, baseline], want) < 1e-5
