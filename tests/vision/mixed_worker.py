"""One rank of the test of texts and images in one batch: python mixed_worker.py MODEL DIRECTORY.

OpenRLHF's actor on a real DeepSpeed engine; RANK, WORLD_SIZE … are set. Rank 0 writes gradients_WORLD.pt: by
stage of ZeRO, the gradient of every parameter in each of two optimizer steps.
"""

import sys

import deepspeed
import torch
import torch.distributed as dist
from openrlhf.cli.train_ppo_ray import get_parser
from openrlhf.models import Actor
from openrlhf.utils import get_strategy
from openrlhf.utils.config import hierarchize
from openrlhf.utils.vlm_utils import merge_mm_train_inputs, process_prompt_with_images
from PIL import Image
from transformers import AutoProcessor

STAGES = (0, 2, 3)  # of ZeRO
# The micro-batches of two optimizer steps: with an image or without. Two ranks take the first and the second half of
# each: in the first step a rank has only texts and the other only images, then both have one of each, in turn.
STEPS = ["ttii", "tiit"]


def micro_batches(model, kinds):
    """[(sequences, multimodal inputs or None)], one response each."""
    processor = AutoProcessor.from_pretrained(model)
    for number, kind in enumerate(kinds):
        colour = (40 * number + 30, 90, 200 - 30 * number)
        images = [Image.new("RGB", (32 + 16 * number, 32), colour)] if kind == "i" else []
        prompt = f"<user>{'<|vision_start|><|image_pad|><|vision_end|>' if images else ''}ab<assistant>cad"
        tokens, inputs, _ = process_prompt_with_images(processor, prompt, images)
        yield torch.tensor([tokens]), inputs


def gradients_at(stage, model):
    """[{parameter: gradient} of each optimizer step]."""
    words = f"--ds.zero_stage {stage} --train.micro_batch_size 1 --train.batch_size {len(STEPS[0])} "
    words += "--ds.param_dtype fp32 --vllm.sync_backend gloo --ds.attn_implementation eager"
    args = hierarchize(get_parser().parse_args(words.split()))
    strategy = get_strategy(args)
    strategy.setup_distributed()
    actor = Actor(
        model,
        attn_implementation="eager",
        param_dtype="fp32",
        ds_config=strategy.get_ds_train_config(),
    )
    # At a learning rate of 0 every step's gradient is that of the same policy.
    adam = {"lr": 0.0, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0}
    settings = {"optim": "adam", "muon": {}, "adam": adam, "lr_scheduler": "constant", "max_norm": 0.0}
    actor, optimizer, scheduler = strategy.prepare((actor, settings | {"scheduler_steps": 10}))
    actor.train()
    rank, world = dist.get_rank(), dist.get_world_size()
    found = []
    for kinds in STEPS:
        share = len(kinds) // world
        for sequences, inputs in list(micro_batches(model, kinds))[rank * share : (rank + 1) * share]:
            mask = torch.ones_like(sequences)
            with torch.no_grad():  # as the log-probs are recomputed before the update
                actor(sequences, mask[:, -3:], mask, **merge_mm_train_inputs([inputs], "cpu"))
            log_probs = actor(sequences, mask[:, -3:], mask, **merge_mm_train_inputs([inputs], "cpu"))
            strategy.backward(-log_probs.mean(), actor, optimizer)
            if actor.model.is_gradient_accumulation_boundary():
                parameters = actor.model.module.named_parameters()
                full = {name: deepspeed.utils.safe_get_full_grad(parameter) for name, parameter in parameters}
                found.append({name: gradient.float().clone() for name, gradient in full.items()})
            strategy.optimizer_step(optimizer, actor, scheduler, name="actor")
    return found


def main(model, directory):
    torch.set_num_threads(1)
    deepspeed.init_distributed("gloo")
    found = {stage: gradients_at(stage, model) for stage in STAGES}
    if dist.get_rank() == 0:
        torch.save(found, f"{directory}/gradients_{dist.get_world_size()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
