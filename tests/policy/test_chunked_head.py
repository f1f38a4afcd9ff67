"""Log-probs without whole logits on two ranks under ZeRO 0 to 3, also where their numbers of chunks differ."""

import json
from pathlib import Path

import pytest
import ranks
import torch
from chunked_worker import CASES, PATHS

pytestmark = [pytest.mark.stack, pytest.mark.slow]
WORKER = Path(__file__).parent / "chunked_worker.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(gradients of rank 0, fetches of the head of both ranks)."""
    directory = tmp_path_factory.mktemp("chunked")
    ranks.finish(list(ranks.start(WORKER, 2, directory)), directory)
    counts = [json.loads((directory / f"gathers_{rank}.json").read_text()) for rank in range(2)]
    return torch.load(directory / "gradients.pt"), counts


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_whole_logits_in_one_process(found, case, path):
    gradients, _ = found
    for expected, got in zip(gradients[case]["alone"], gradients[case][path], strict=True):
        assert expected.keys() == got.keys()
        for name, gradient in expected.items():
            assert torch.linalg.norm(got[name] - gradient) <= 1e-5 * torch.linalg.norm(gradient), name


@pytest.mark.parametrize("case", [case for case, (stage, _) in CASES.items() if stage == 3])
def test_zero_3_fetches_the_head_as_often_whatever_the_chunks(found, case):
    _, counts = found
    for of_rank in counts:
        assert all(of_rank[case]["one chunk"])
        assert of_rank[case]["chunks of 3"] == of_rank[case]["one chunk"]
