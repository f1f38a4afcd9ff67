"""What benchmarks/chaos.py compares two runs by, and how it tells its kills."""

import pytest

from kimi_plugins import run_log


@pytest.fixture
def chaos(benchmark):
    return benchmark("chaos")


def run(directory, rewards=(0.25, 0.5), *, seconds=1.0, text="7", weights=b"w"):
    for step, reward in enumerate(rewards, 1):
        run_log.append(directory / "checkpoints", "train", step, {"reward": reward, "timing/rollout": seconds})
        run_log.append_rollouts(directory / "checkpoints", {"step": step, "samples": [text]})
    (directory / "model").mkdir()
    (directory / "model" / "model.safetensors").write_bytes(weights)
    return directory


def test_runs_that_differ_in_times_only_are_the_same(chaos, tmp_path):
    assert chaos.compare(run(tmp_path / "a"), run(tmp_path / "b", seconds=9.0)) == []


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"rewards": (0.25,)}, "steps: 2 and 1"),
        ({"rewards": (0.25, 0.75)}, "step 2: reward: 0.5 and 0.75"),
        ({"text": "8"}, "rollouts.jsonl"),
        ({"weights": b"v"}, "model.safetensors"),
    ],
)
def test_each_other_difference_is_found(chaos, tmp_path, other, difference):
    assert difference in chaos.compare(run(tmp_path / "a"), run(tmp_path / "b", **other))


def test_a_row_of_the_table_is_a_component_and_what_came_of_it(chaos):
    def kill(component, phase, outcome, end=None, gone=None, redone=0):
        return {"component": component, "phase": phase, "outcome": outcome, "seconds_to_end": end,
                "seconds_to_no_process": gone, "redone_steps": redone}  # fmt: skip

    kills = [
        kill("engine", "rollout", "ended", 20.9, 20.9, 1),
        kill("raylet", "end", "goes on"),
        kill("engine", "training", "ended", 8.0, 9.5),
        kill("engine", "rollout", "ended", 10.0, 10.0, None),
    ]
    assert chaos.table(kills).splitlines()[2:] == [
        "| engine | 3 | rollout (2), training | the run ended | 8 to 20.9 s | 9.5 to 20.9 s | 0 to 1 |",
        "| raylet | 1 | end | the run goes on |  |  | 0 |",
    ]
