"""A reset optimizer behaves like a freshly built one (k1.5 §2.3.2)."""

import json
from pathlib import Path

import pytest
import ranks
import torch

from kimi_plugins.policy.optimizer_reset import reset_optimizer

WORLD = 2
HERE = Path(__file__).parent


def train(optimizer, parameter, steps):
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        optimizer.step()


@pytest.mark.parametrize(
    ("make", "kwargs"),
    [
        (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}),
        (torch.optim.Adam, {"lr": 0.1, "amsgrad": True}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    ],
)
def test_after_a_reset_torch_optimizers_update_as_new_ones(make, kwargs):
    parameter = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    optimizer = make([parameter], **kwargs)
    train(optimizer, parameter, 4)
    moments = [value for state in optimizer.state.values() for value in state.values()]
    reset_optimizer(optimizer)
    assert all(a is b for a, b in zip(moments, [v for s in optimizer.state.values() for v in s.values()], strict=True))

    fresh_parameter = torch.nn.Parameter(parameter.detach().clone())
    fresh = make([fresh_parameter], **kwargs)
    train(optimizer, parameter, 3)
    train(fresh, fresh_parameter, 3)
    torch.testing.assert_close(parameter, fresh_parameter, rtol=0, atol=1e-12)


def test_state_it_does_not_understand_is_refused_and_nothing_is_changed():
    parameter = torch.nn.Parameter(torch.ones(5))
    optimizer = torch.optim.Adagrad([parameter], initial_accumulator_value=0.5)
    train(optimizer, parameter, 2)
    before = optimizer.state[parameter]["sum"].clone()
    with pytest.raises(ValueError, match=r"Adagrad keeps state .*optimizer_reset cannot reset: sum; use Adam or Muon"):
        reset_optimizer(optimizer)
    assert torch.equal(optimizer.state[parameter]["sum"], before)
    assert optimizer.state[parameter]["step"] == 2


# -- real DeepSpeed engines, two gloo ranks --


@pytest.fixture(scope="module")
def deepspeed_results(tmp_path_factory):
    directory = tmp_path_factory.mktemp("deepspeed")
    ranks.finish(list(ranks.start(HERE / "deepspeed_worker.py", WORLD, directory)), directory)
    return [json.loads((directory / f"results_{rank}.json").read_text()) for rank in range(WORLD)]


@pytest.mark.stack
@pytest.mark.parametrize(
    "case",
    [
        "zero 0",
        "zero 0, fp32",
        "zero 1",
        "zero 2",
        "zero 3",
        "zero 2, muon",
    ],
)
def test_after_a_reset_deepspeed_updates_as_a_fresh_engine(deepspeed_results, case):
    for results in deepspeed_results:
        result = results["reset"][case]
        assert max(result["difference"]) <= 1e-6
        assert min(result["moved"]) > 1e-3
        assert result["weights_kept"] and result["hyper_parameters_kept"]
        # FP16_Optimizer, stage 0's wrapper in bf16, is built with one step already taken.
        assert set(result["steps"]) == {1 if case == "zero 0" else 0}


@pytest.mark.stack
@pytest.mark.parametrize("case", ["zero 0", "zero 2", "zero 3"])
def test_the_learning_rate_schedule_goes_on(deepspeed_results, case):
    result = deepspeed_results[0]["reset"][case]
    # LinearLR from 1 to 0.1 over 10 updates: 5 before the reset, 3 after it
    assert result["lr_after_reset"] == pytest.approx([result["lr_of_base"] * 0.55] * len(result["lr_after_reset"]))
    assert result["lr_at_the_end"] == pytest.approx([result["lr_of_base"] * 0.28] * len(result["lr_at_the_end"]))


@pytest.mark.stack
@pytest.mark.parametrize("case", ["moments only", "no reset"])
def test_the_comparison_notices_a_missing_or_partial_reset(deepspeed_results, case):
    """Without the step counters the bias correction is wrong, so the comparison above must see it."""
    for results in deepspeed_results:
        assert max(results[case]["difference"]) > 1e-4


@pytest.mark.stack
@pytest.mark.parametrize("how", ["gradient accumulation", "dynamic batches"])
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_deepspeed_sees_the_gradient_of_the_whole_batch(deepspeed_results, stage, how):
    """Two ranks, three uneven micro-batches each, through DeepSpeed's own scaling and averaging."""
    for results in deepspeed_results:
        assert results["gradient"][f"zero {stage}, {how}"] < 1e-5


@pytest.mark.stack
def test_zero_3_hands_out_only_what_gloo_has_gathered(deepspeed_results):
    assert [results["unfilled gathers"] for results in deepspeed_results] == [0] * WORLD
