"""Engines that die: told from other failures, and started again by Ray (--vllm.max_restarts)."""

import os
import time

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

POLL_SECONDS = 1.0


def result(ref):
    """ray.get(ref), or None if the engine that was asked has died; whatever else it raised is raised."""
    try:
        return ray.get(ref)
    except RayError as error:
        if not is_death(error):
            raise
        return None


def is_death(error: RayError) -> bool:
    """Whether an engine has died: its process, or vLLM's engine core, a child process of it."""
    core_died = isinstance(error, RayTaskError) and type(error.cause).__name__ == "EngineDeadError"
    return core_died or isinstance(error, RayActorError)


class Restarts:
    """Notices engines that were restarted, by Ray alone or here, since it last looked."""

    def __init__(self, engines: list) -> None:
        self._engines = engines
        self._processes: list[int] | None = None

    def revive(self) -> bool:
        """Restart dead engines and wait until all serve; returns whether any of them is a new process.

        Raises:
            ActorDiedError: an engine has been restarted as often as --vllm.max_restarts allows.
        """
        before, self._processes = self._processes, [_process_when_healthy(engine) for engine in self._engines]
        return before is not None and before != self._processes


async def process_id(engine) -> int:
    """Runs in the engine's process, and ends it if vLLM's engine core below it has died."""
    from vllm.v1.engine.exceptions import EngineDeadError  # vLLM takes seconds to import elsewhere

    try:
        await engine.check_health()
    except EngineDeadError:
        os._exit(1)
    return os.getpid()


def _process_when_healthy(engine) -> int:
    while True:
        try:
            return ray.get(engine.run.remote(process_id))
        except RayActorError:
            if ray._private.state.actors(engine._actor_id.hex())["State"] == "DEAD":
                raise
            time.sleep(POLL_SECONDS)  # Ray is starting it
