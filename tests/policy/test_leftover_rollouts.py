"""The last iteration of an episode has fewer rollouts: all of them are trained on, by every rank, and none twice."""

from pathlib import Path

import pytest
from ranks import outcomes

WORKER = Path(__file__).parent / "leftover_worker.py"
CASES = [
    "micro-batches larger than the rest",
    "micro-batches smaller than the rest",
    "a rest that ranks cannot share evenly",
    "fewer rollouts than ranks",
    "more than one optimizer step",
    "ZeRO 2",
    "ZeRO 3",
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{ranks: results of each}, the ranks of both runs started together."""
    return outcomes(WORKER, tmp_path_factory.mktemp("rest"), "rest")


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_a_short_iteration_and_the_next_one_have_the_gradient_of_the_formula(results, case, world):
    for rank in results[world]:
        for iteration in rank[case]:  # the short one, then a whole one into which nothing of it may leak
            assert iteration["error"] < 1e-5
            got, want = iteration["metric"]
            assert got == pytest.approx(want, rel=1e-5)


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_the_moving_average_of_the_weights_is_that_of_the_formula_and_in_the_checkpoint(results, stage, world):
    for rank in results[world]:
        assert max(rank[f"average, ZeRO {stage}"]) < 1e-6


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_engines_get_lora_adapters_merged_and_so_they_are_saved_and_resumed(results, stage, world):
    differences = results[world][0][f"adapters, ZeRO {stage}"]
    assert differences.pop("moved") > 0.1
    assert differences.pop("untrained") == differences.pop("again") == 0
    assert differences == pytest.approx({"merged": 0, "resumed": 0}, abs=1e-6)


def test_every_rank_gets_equally_many_micro_batches_and_its_even_share():
    from openrlhf.trainer.ppo_utils.experience_maker import even_batch_sizes

    for samples in range(1, 60):
        for limit in (1, 3, 8):
            for ranks in (1, 2, 3):
                sizes = even_batch_sizes(samples, limit, ranks)
                assert sum(sizes) == samples and 0 < min(sizes) and max(sizes) <= limit
                if set(sizes) == {1} and len(sizes) % ranks:
                    continue  # fewer samples than whole rounds: single ones
                per_rank = len(sizes) // ranks
                shares = [sum(sizes[rank * per_rank : (rank + 1) * per_rank]) for rank in range(ranks)]
                assert max(shares) - min(shares) <= 1
