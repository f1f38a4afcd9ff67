"""The steps of the quickstart as processes, without what they run."""

import os
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
