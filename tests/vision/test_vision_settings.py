"""Prompt files whose images and placeholders do not fit are refused before a run starts."""

import json
import re
from types import SimpleNamespace

import pytest
from made_images import encoded, picture

from kimi_plugins import options
from kimi_plugins.plugin import Vision


def settings(tmp_path, rows=(), most=2, pattern=None, template=True, model="none", max_len=100):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = SimpleNamespace(
        prompt_dataset=str(path),
        prompt_split="train",
        input_key="input",
        label_key=None,
        image_key="images",
        max_images_per_prompt=most,
        max_samples=100,
        apply_chat_template=template,
        max_len=max_len,
    )
    vision = options.Vision(answer_pattern=pattern)
    return SimpleNamespace(
        data=data,
        eval=SimpleNamespace(dataset=None, split="train"),
        kimi=SimpleNamespace(vision=vision),
        actor=SimpleNamespace(model_name_or_path=str(model)),
        rollout=SimpleNamespace(max_new_tokens=20),
    )


def user(content):
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    "prompt, images, most, told",
    [
        (user("<image>What?"), ["{png}"], 2, None),
        ("<image>What?", "{png}", 2, None),
        (user([{"type": "image"}, {"type": "text", "text": "What?"}]), ["{png}"], 2, None),
        (user("Only text."), [], 2, None),
        (user("Only text."), None, 0, None),
        (user("<image>What?"), [], 0, "has 1 × <image> and 0 images"),
        (user("<image>What?"), ["{png}", "{png}"], 2, "has 1 × <image> and 2 images"),
        (user("<image>What?"), [], 2, "has 1 × <image> and 0 images"),
        (user("<image>" * 3), ["{png}"] * 3, 2, r"has 3 images; raise data.max_images_per_prompt \(2\)"),
        (user("<image>What?"), ["{png}"], 0, "set data.max_images_per_prompt"),
        (user("<image>What?"), ["missing.png"], 1, "has an image that does not exist; correct its path"),
        (user("<image>What?"), ["http://127.0.0.1/x.png"], 1, None),
    ],
)
def test_rows(tmp_path, prompt, images, most, told):
    (tmp_path / "a.png").write_bytes(encoded(picture()))

    def filled(value):
        return [filled(item) for item in value] if isinstance(value, list) else value.format(png=tmp_path / "a.png")

    row = {"input": prompt, "images": images if images is None else filled(images)}
    found = Vision().openrlhf_check_machine(settings(tmp_path, [row], most), "train")
    if told is None:
        assert found == []
    else:
        [problem] = found
        assert problem.startswith(f"data.prompt_dataset: {tmp_path}/prompts.jsonl row 1: ")
        assert re.search(told, problem), problem


def test_rows_are_counted(tmp_path):
    rows = [{"input": "<image>", "images": []}] * 7
    [problem] = Vision().openrlhf_check_machine(settings(tmp_path, rows), "train")
    assert "rows 1, 2, 3 and 4 more: has 1" in problem
    assert Vision().openrlhf_check_machine(settings(tmp_path, rows), "sft") == []


def test_configuration(tmp_path):
    assert Vision().openrlhf_validate_config(settings(tmp_path, pattern="####"), "train") == []
    [problem] = Vision().openrlhf_validate_config(settings(tmp_path, pattern="("), "train")
    assert problem.startswith("kimi.vision.answer_pattern: ")
    [problem] = Vision().openrlhf_validate_config(settings(tmp_path, template=False), "train")
    assert problem.startswith("data.apply_chat_template: not set")


def test_prompts_that_do_not_fit_are_named_before_the_run(tmp_path):
    pytest.importorskip("torchvision")
    from kimi_plugins.vision.tiny_model import build_processor

    model = tmp_path / "model"
    build_processor(list("What?1+=")).save_pretrained(model)
    (model / "config.json").write_text(json.dumps({"model_type": "qwen3_vl", "vision_config": {}}))
    (tmp_path / "small.png").write_bytes(encoded(picture(size=(64, 64))))  # 16 tokens
    (tmp_path / "large.png").write_bytes(encoded(picture(size=(128, 128))))  # 64 tokens
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9\n")
    rows = [
        {"input": user("<image>What?"), "images": ["small.png"]},
        {"input": user("<image><image>What?"), "images": ["large.png", "small.png"]},
        {"input": user("<image>What?"), "images": ["script.png"]},
        {"input": user("<image>What?"), "images": ["large.png"]},
        {"input": user("What<unk>?"), "images": []},
    ]
    found = Vision().openrlhf_check_machine(settings(tmp_path, rows, model=model), "train")
    assert len(found) == 3, found
    assert re.search(r"row 2: has 9\d tokens with its images, and data.max_len less .* leaves 80; raise", found[0])
    assert "row 3: has an image that is not a readable image of an accepted format" in found[1]
    assert "row 5: the text holds a special token of the model's" in found[2]
