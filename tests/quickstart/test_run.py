"""The steps of the quickstart as processes, without what they run."""

import os
import subprocess
import sys

import pytest

from kimi_plugins.quickstart import run


def test_a_step_is_ended_with_the_quickstart(tmp_path):
    log = tmp_path / "step.log"
    command = [sys.executable, "-uc", "import os, time; print(os.getpid()); time.sleep(60)"]

    def terminated():
        if log.read_text():
            sys.exit(143)

    with pytest.raises(SystemExit):
        run._call(command, log, terminated)
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)


def test_a_second_quickstart_in_the_same_directory_is_refused(tmp_path, capsys):
    """It would remove the run of the first; the lock goes with the process that holds it, however that ends."""
    hold = "import sys, time; from pathlib import Path; from kimi_plugins.quickstart.run import alone\n"
    hold += "with alone(Path(sys.argv[1])) as first: print(first, flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "True\n"
        assert run.run(tmp_path, seed=1) == 2
        assert f"another one is running in {tmp_path}; wait for it, or give --out" in capsys.readouterr().err
        with run.alone(tmp_path / "other") as first:
            assert first
    finally:
        holder.kill()
        holder.wait()
    with run.alone(tmp_path) as first:
        assert first
