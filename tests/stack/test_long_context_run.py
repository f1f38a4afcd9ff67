"""RL with responses of 16k tokens in segments of 1k: killed with one of them in the middle, resumed, to the end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(1800)]

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "long_context.py"
CONTEXT = 16384


def test_long_responses_over_many_segments_and_a_kill(tmp_path):
    out = tmp_path / "out.json"
    words = ["--run", tmp_path / "run", "--context", CONTEXT, "--out", out]
    result = subprocess.run([sys.executable, BENCHMARK, *map(str, words)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    run = json.loads(out.read_text())["run"]
    assert run["responses"] == 2 * run["prompts"] and run["steps"] == run["prompts"] / 2
    # The four long ones of this seed, up to the last token there is room for, over segments of a sixteenth.
    assert run["cut_by_length"] == 4 and run["longest"] == CONTEXT - 2
    assert run["most_segments"] > 3
    assert 1 < run["killed_after"] < run["steps"]
    # Loops end as soon as the rule can see them, and all others by themselves.
    assert run["loops"]["ended"] > 3 and run["loops"]["longest"] < 256
    # Engine and actor agree as well at the end of a long response as at that of a short one.
    first, last = run["gap"][0], run["gap"][-1]
    assert first["tokens"][1] < 512 and last["tokens"][1] >= CONTEXT - 2
    assert max(row["mean"] for row in run["gap"]) < 1e-4
    assert {"driver", "PolicyModelActor", "RolloutRayActor"} <= set(run["peak_mib"])
