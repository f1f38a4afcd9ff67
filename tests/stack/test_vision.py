"""Images and text in one run on the real stack; the model is untrained, so it would write placeholders of images."""

import json
import re
from collections import defaultdict
from statistics import mean

import pytest
from PIL import Image
from real_runs import START_UP, flags
from transformers import AutoProcessor

from kimi_plugins import run_log
from kimi_plugins.vision.tiny_model import IMAGE, VIDEO, build_model

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]

BATCH, SEGMENT = 16, 4


def write_prompts(directory) -> None:
    """Two batches of pairs: a text, and the same with an image, of several sizes. Labels are digits for the reward."""
    with (directory / "prompts.jsonl").open("w") as file:
        for n in range(2 * BATCH):
            text = f"{n // 2}+{n // 2}="
            row = {"input": [{"role": "user", "content": text}], "label": str(n // 2 % 10), "images": [], "pair": text}
            if n % 2:
                path = directory / f"{n}.png"
                Image.new("RGB", (16 * (1 + n % 4), 48), (8 * n, 255 - 8 * n, 128)).save(path)
                row["input"][0]["content"] = f"<image>{text}"
                row["images"] = [str(path)]
            file.write(json.dumps(row) + "\n")


def settings(tmp_path, **changed):
    return flags(
        tmp_path,
        tmp_path / "model",
        data__apply_chat_template=True,
        data__image_key="images",
        data__max_images_per_prompt=1,
        rollout__max_new_tokens=12,
        train__num_episodes=3,  # images come again after the weights have changed
        actor__adam__lr=1e-2,
        ckpt__disable_ds=None,
        ckpt__save_steps=1,
        kimi__length__warm_up_steps=0,
        kimi__sampling__priority="uniform",
        kimi__sampling__linked_key="pair",
        kimi__policy__linked_baseline=True,
        kimi__log__groups=BATCH,
        actor__num_gpus_per_node=2,
        ds__zero_stage=2,
        rollout__micro_batch_size=4,
        train__colocate_all=None,  # one engine for both
        train__micro_batch_size=1,  # with an image on one rank and without on the other
        **changed,
    )


def pairs_of(record: dict) -> dict[str, list[dict]]:
    """Of each pair in a step, the samples of its texts and images: (prompt, responses)."""
    pairs = defaultdict(list)
    for sample in record["samples"]:
        pairs[re.search(r"\d+\+\d+=", sample["prompt"])[0]].append(sample)
    return pairs


def check_baselines(record: dict) -> float:
    """Every advantage is the reward less what lies halfway from the lowest reward over text and image to their mean.

    Returns how far the mean of either is from the mean of both.
    """
    apart = 0.0
    for samples in pairs_of(record).values():
        assert 2 * sum(IMAGE in sample["prompt"] for sample in samples) == len(samples)
        rewards = [[response["reward"] for response in sample["responses"]] for sample in samples]
        middle = mean(mean(k) for k in rewards)
        baseline = (min(map(min, rewards)) + middle) / 2
        for sample, k in zip(samples, rewards, strict=True):
            assert [response["advantage"] for response in sample["responses"]] == pytest.approx(
                [reward - baseline for reward in k], abs=1e-5
            )
            apart = max(apart, abs(mean(k) - middle))
    return apart


def kinds_of_prompts(record: dict) -> set[bool]:
    return {IMAGE in sample["prompt"] for sample in record["samples"]}


def test_images_and_text_with_resume_partial_rollouts_and_length_reward(tmp_path, start):
    build_model(tmp_path / "model", [*"0123456789+="], seed=0)
    write_prompts(tmp_path)
    run = start(settings(tmp_path), plugins="kimi")
    run.wait_for(lambda: len(run.steps()) >= 2, START_UP)
    run.kill()

    partial = [*settings(tmp_path, kimi__rollout__segment_tokens=SEGMENT), "--resume"]
    run = start(partial, plugins="kimi")
    run.wait_for(lambda: len(run.steps()) >= 4, START_UP)
    run.kill()
    resumed = start(partial, plugins="kimi")
    assert resumed.process.wait(timeout=START_UP) == 0, resumed.tail()
    steps = resumed.steps()  # those before the checkpoint included
    assert [step["step"] for step in steps] == [*range(1, len(steps) + 1)] and len(steps) == 6
    first = next(n for n, step in enumerate(steps) if "kimi/segments_mean" in step)
    assert first >= 1  # whole rollouts before, and what follows goes on
    # Here all go on within the iteration, with one policy; later, some have begun with an older one.
    assert steps[first]["response_length"] > SEGMENT and steps[first]["kimi/segments_mean"] == 1
    assert max(step["kimi/logprob_gap_abs"] for step in steps[: first + 1]) < 0.01, steps
    assert steps[-1]["kimi/segments_mean"] > 1
    held = [step for step in steps[first:] if step["kimi/held_groups"]]  # with one copy of each image
    # At most 4 x 3 patches of an image of 8 x 8 pixels in 3 colours and 2 frames, float32, are one prompt's.
    assert held and all(0 < step["kimi/held_mib"] * 2**20 < step["kimi/held_groups"] * 200_000 for step in held)
    assert any(step["kimi/length_reward_mean"] for step in steps)

    rollouts = list(run_log.read_rollouts(resumed.checkpoints))
    assert all(kinds_of_prompts(record) == {True, False} for record in rollouts)
    assert max(check_baselines(record) for record in rollouts) > 0.05  # whole and partial rollouts
    assert steps[0]["kimi/consistency_pairs"] == BATCH / 2
    texts = [response["text"] for one in rollouts for sample in one["samples"] for response in sample["responses"]]
    assert len(texts) == 6 * BATCH * 4 and not any(IMAGE in text or VIDEO in text for text in texts)
    assert AutoProcessor.from_pretrained(tmp_path / "out").image_processor.patch_size == 8
    assert resumed.orphans() == []
