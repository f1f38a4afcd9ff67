"""The commands of docs/data.md work as they stand; training itself is tested in tests/stack."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_way_through(tmp_path):
    [block] = re.findall(r"```\n(mkdir.*?)```", (ROOT / "docs/data.md").read_text("utf-8"), re.DOTALL)
    commands = block[: block.index("openrlhf train $RUN\n")]
    for name in ("configs", "kimi_plugins"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    pythonpath = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": pythonpath, "HF_HUB_OFFLINE": "1"}
    script = f"set -e\n{commands}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (
        "downloaded: verl (question = prompt, answer = reward_model.ground_truth, source = data_source)" in done.stderr
    )
    assert "256 prompts of 256 rows" in done.stdout
