"""Engines that die: told from other failures, and started again by Ray (--vllm.max_restarts)."""

import os
import time

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

POLL_SECONDS = 1.0


def result(ref):
    """ray.get(ref), or None if the engine that was asked has died; whatever else it raised is raised."""
    try:
        return ray.get(ref)
    except RayActorError:  # its process
        return None
    except RayTaskError as error:
        if not _is_core_death(error):
            raise
        return None


class Restarts:
    """Notices engines that were restarted, by Ray alone or here, since it last looked."""

    def __init__(self, engines: list) -> None:
        self._engines = engines
        self._processes = None

    def revive(self) -> bool:
        """Restart the engines that have died, and wait until all serve; whether one is another than before.

        Raises:
            ActorDiedError: an engine has been restarted as often as --vllm.max_restarts allows.
        """
        before, self._processes = self._processes, [_process_when_healthy(engine) for engine in self._engines]
        return before is not None and before != self._processes


async def process_id(engine) -> int:
    """Runs in the engine's process."""
    await engine.check_health()
    return os.getpid()


def _process_when_healthy(engine) -> int:
    while True:
        try:
            return ray.get(engine.run.remote(process_id))
        except ActorUnavailableError:  # Ray is starting it
            time.sleep(POLL_SECONDS)
        except RayTaskError as error:
            if not _is_core_death(error):
                raise
            ray.kill(engine, no_restart=False)


def _is_core_death(error: RayTaskError) -> bool:
    """Whether vLLM's engine core, a child process, died below a living actor."""
    return type(error.cause).__name__ == "EngineDeadError"  # importing vLLM only for its class takes seconds
