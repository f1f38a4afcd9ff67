"""Texts and images in one batch on two ranks: no rank waits for the other, and the gradients are one rank's."""

from pathlib import Path

import pytest
import ranks
import torch

from kimi_plugins.vision.tiny_model import build_model

pytestmark = [pytest.mark.stack, pytest.mark.slow]
WORKER = Path(__file__).parent / "mixed_worker.py"


@pytest.fixture(scope="module")
def gradients(tmp_path_factory):
    """{ranks: {stage: gradients}}, the ranks of both runs started together."""
    model, directory = tmp_path_factory.mktemp("tiny_vlm"), tmp_path_factory.mktemp("mixed")
    build_model(model, list("abcd"), seed=1)
    ranks.finish([rank for world in (1, 2) for rank in ranks.start(WORKER, world, directory, model)], directory)
    return {world: torch.load(directory / f"gradients_{world}.pt") for world in (1, 2)}


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_gradients_of_two_ranks_are_those_of_one(gradients, stage):
    for expected, found in zip(gradients[1][stage], gradients[2][stage], strict=True):
        assert expected.keys() == found.keys()
        size = sum(gradient.square().sum() for gradient in expected.values()).sqrt()
        visual = sum(gradient.square().sum() for name, gradient in expected.items() if "visual" in name).sqrt()
        assert visual > 1e-3 * size  # the tower is trained
        error = sum((found[name] - gradient).square().sum() for name, gradient in expected.items()).sqrt()
        assert error < 1e-4 * size
