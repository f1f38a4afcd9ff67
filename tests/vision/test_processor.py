"""Tokens of images and prompts against what the model's own processor makes of them."""

import json

import numpy as np
import pytest
from PIL import Image

from kimi_plugins.cli.vision_prepare import add_parser
from kimi_plugins.data.images import Limits, fitted
from kimi_plugins.data.store import LIMITS
from kimi_plugins.data.values import BadRow

pytest.importorskip("torchvision")

from kimi_plugins.vision import processor, tiny_model  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    tiny_model.build_processor(list("abcdefghijklmnopqrstuvwxyz ?.+=0123456789\\{}GT")).save_pretrained(directory)
    # The checkpoint's configuration names the processor's class.
    (directory / "config.json").write_text(json.dumps({"model_type": "qwen3_vl", "vision_config": {}}))
    return str(directory)


SIZES = [(16, 16), (40, 25), (64, 64), (100, 30), (128, 128), (127, 41), (300, 200), (90, 160)]


@pytest.mark.parametrize("size", SIZES)
def test_tokens_are_those_the_processor_makes(model, size):
    found = processor.loaded(model)
    real = found._processor
    messages = [{"role": "user", "content": "<image>what is it?"}]
    text = real.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it?"}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    tokens = real(text=[text], images=[Image.new("RGB", size)], add_special_tokens=False)["input_ids"][0]
    assert found.prompt_tokens(messages, [size]) == len(tokens)
    assert found.image_tokens(*size) == list(tokens).count(real.image_token_id)


def test_images_fit_into_their_tokens(model):
    rng = np.random.default_rng(0)
    limits = processor.limits_of(model, Limits(least=1, most=10**6, source=10**7), 30)
    assert limits.grid == 16 and limits.most == 30 * 16**2
    for _ in range(60):
        width, height = (int(side) for side in rng.integers(200, 700, 2))
        image = fitted(Image.new("RGB", (width, height)), limits)
        assert processor.loaded(model).image_tokens(*image.size) <= 30
        if width * height > 2 * limits.most:  # and use most of them
            assert processor.loaded(model).image_tokens(*image.size) >= 20


@pytest.mark.parametrize("size", [(1920, 1080), (3840, 2160), (1280, 720), (1000, 1000), (4000, 3000), (1003, 1000)])
def test_no_picture_costs_more_than_the_recipes_budget(size):
    """Sides are rounded to multiples of 28, a token each: 16:9 had 1,296 tokens for a budget of 1,280."""
    width, height = fitted(Image.new("RGB", size), LIMITS).size
    assert round(width / 28) * round(height / 28) <= 1280
    assert abs(width / height - size[0] / size[1]) < 0.01


def test_special_tokens_and_long_prompts_are_refused(model):
    def check(text, sizes=(), most=None):
        processor.check_prompt([{"role": "user", "content": text}], list(sizes), model, most)

    check("what is a<b?")
    with pytest.raises(BadRow, match=r"holds '<\|image_pad\|>', a special token"):
        check("<|image_pad|>1+1=")
    check("<image>what?", [(128, 128)], 80)
    with pytest.raises(BadRow, match="tokens, 64 of them for images, and may have 60"):
        check("<image>what?", [(128, 128)], 60)


def test_a_prompt_set_for_a_model(model, tmp_path, capsys):
    import argparse

    Image.new("RGB", (640, 360), (90, 20, 20)).save(tmp_path / "wide.png")
    rows = [
        {"input": "<image>what?", "label": "1", "images": ["wide.png"]},
        {"input": "what<pad>?", "label": "1", "images": []},
        {"input": "<image><image><image>what?", "label": "1", "images": ["wide.png"] * 3},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "m.yaml").write_text("image_tokens: 40\nprompt_tokens: 100\nsources: [{name: a, files: rows.jsonl}]\n")
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    words = ["vision-prepare", tmp_path / "m.yaml", "--out", tmp_path / "out", "--model", model, "--workers", "1"]
    args = parser.parse_args(list(map(str, words)))
    assert args.func(args) == 0
    [row] = map(json.loads, (tmp_path / "out/prompts.jsonl").read_text().splitlines())
    assert processor.loaded(model).image_tokens(*Image.open(row["images"][0]).size) <= 40
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines()]
    assert "'<pad>', a special token" in reasons[0] and "may have 100" in reasons[1]
    args = parser.parse_args([*map(str, words[:-4]), "--model", str(tmp_path), "--workers", "1"])
    assert args.func(args) == 2
    assert "its processor cannot be loaded" in capsys.readouterr().err
