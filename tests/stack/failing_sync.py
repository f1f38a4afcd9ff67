"""A plugin with which a chosen weight sync fails in the engine's worker, after it has received some tensors."""

import os
import signal
from pathlib import Path

from openrlhf.trainer.ray.vllm_worker_wrap import WorkerWrap

from kimi_plugins import plugin

RECEIVED = 3  # tensors of the sync that fails
ERROR = "no room for the weights, says the engine"


class Rollout(plugin.Rollout):
    def openrlhf_engine_args(self, args):
        return (super().openrlhf_engine_args(args) or {}) | {"worker_extension_cls": "failing_sync.Worker"}


class Kimi:
    openrlhf_plugins = ("failing-rollout", *(name for name in plugin.Kimi.openrlhf_plugins if name != "kimi-rollout"))


class Worker(WorkerWrap):
    syncs_left: int | None = None

    def receive_weights(self, weights):
        if self.syncs_left is None:
            self.syncs_left = int(os.environ["FAILING_SYNC"])
        self.syncs_left -= 1
        if self.syncs_left == 0:
            self._model_update_group = FailingGroup(self._model_update_group)
        super().receive_weights(weights)


class FailingGroup:
    """A process group in which this process raises, or kills itself, at the broadcast after the RECEIVED-th."""

    def __init__(self, group):
        self.group, self.left = group, RECEIVED

    def broadcast(self, tensors, options):
        if self.left == 0:
            Path(os.environ["SYNC_FAILED"]).touch()
            if os.environ["SYNC_FAULT"] == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError(ERROR)
        self.left -= 1
        return self.group.broadcast(tensors, options)


def install(site: Path, monkeypatch, *, sync: int, fault: str) -> Path:
    """Let the runs of this test find the plugin `kimi-failing`; returns a file made when it fails.

    sync: the one that fails, from 1.
    fault: "raises" or "killed".
    """
    info = site / "failing_sync-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: failing-sync\nVersion: 0\nSummary: a weight sync that fails\n")
    (info / "entry_points.txt").write_text(
        "[openrlhf]\nkimi-failing = failing_sync:Kimi\nfailing-rollout = failing_sync:Rollout\n"
    )
    path = [str(site), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("FAILING_SYNC", str(sync))
    monkeypatch.setenv("SYNC_FAULT", fault)
    monkeypatch.setenv("SYNC_FAILED", str(site / "failed"))
    return site / "failed"
