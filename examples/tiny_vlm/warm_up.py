"""The warm-up (k1.5 §2.2): a plain supervised loop, because OpenRLHF's SFT trainer takes no images.

Half of the solutions count row by row and are right; half guess a number at a glance, off by up to 2.
Half of the scenes are drawn, half written.

    python warm_up.py --out runs/tiny_vlm/warm_up
"""

import argparse
import random
from pathlib import Path

import torch
from openrlhf.datasets.prompts_dataset import preprocess_data
from squares import SYMBOLS, chat, count, drawn, scene, worked
from tqdm import tqdm
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from kimi_plugins.quickstart.arithmetic import EOS
from kimi_plugins.vision.tiny_model import build_model

BATCH = 64
GUESS_SHARE = 0.5  # of the solutions
LARGEST_ERROR = 2  # of a guess
LEARNING_RATE = 2e-3
IGNORED = -100  # by the loss


def guess(scene, rng: random.Random) -> str:
    """A digit."""
    return str(min(max(count(scene) + rng.randint(-LARGEST_ERROR, LARGEST_ERROR), 0), 9))


def batch(processor, rng: random.Random, image: bool) -> dict[str, torch.Tensor]:
    """Model inputs of BATCH scenes, all drawn or all written, with labels on the solutions."""
    prompts, solutions, images = [], [], []
    for _ in range(BATCH):
        one = scene(rng)
        row = {"input": chat(one, image)}
        prompts.append(preprocess_data(row, apply_chat_template=processor.apply_chat_template)[0])
        if image:
            images.append([drawn(one, rng)])
        solutions.append((guess(one, rng) if rng.random() < GUESS_SHARE else worked(one)) + EOS)
    texts = [prompt + solution for prompt, solution in zip(prompts, solutions, strict=True)]
    inputs = processor(text=texts, images=images or None, padding=True, padding_side="right", return_tensors="pt")
    start = inputs["input_ids"][0].tolist().index(processor.tokenizer.convert_tokens_to_ids("<assistant>")) + 1
    labels = inputs["input_ids"].clone()
    labels[:, :start] = IGNORED  # all prompts of a batch are of one length
    labels[inputs["attention_mask"] == 0] = IGNORED
    return dict(inputs) | {"labels": labels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/tiny_vlm/warm_up"), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=500, help="batches of 64 scenes; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    build_model(args.out, SYMBOLS, args.seed)
    processor = AutoProcessor.from_pretrained(args.out)
    model = Qwen3VLForConditionalGeneration.from_pretrained(args.out, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=args.steps, pct_start=0.1)
    bar = tqdm(range(args.steps))
    for step in bar:
        loss = model(**batch(processor, rng, image=step % 2 == 0)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    model.to(torch.bfloat16).save_pretrained(args.out)


if __name__ == "__main__":
    main()
