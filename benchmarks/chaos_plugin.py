"""The plugin that chaos.py adds to its runs: it writes down when each phase of the trainer begins.

A line a phase in the file that CHAOS_PHASES names: Unix seconds, phase.
"""

import os
import time

from openrlhf.plugins import hookimpl

CALLS = {"fit": "training", "broadcast_to_vllm": "weight sync", "save_checkpoint": "checkpoint"}


def mark(phase: str) -> None:
    with open(os.environ["CHAOS_PHASES"], "a") as file:
        file.write(f"{time.time():.4f} {phase}\n")


def begins(phase: str | None, method):
    """The method with a mark before it: of `phase`, or of what the actors are asked to do."""

    def marked(*args, **kwargs):
        if begun := phase or CALLS.get(kwargs.get("method_name", "")):
            mark(begun)
        return method(*args, **kwargs)

    return marked


@hookimpl
def openrlhf_prompt_columns(args):
    """Called once, in the trainer's process, before the first step; names no column.

    The trainer's own methods cannot be wrapped here: Ray copies them into the actor's class.
    """
    from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
    from openrlhf.trainer.ray.launcher import RayActorGroup

    from kimi_plugins.rollout.generator import PartialSamplesGenerator

    PartialSamplesGenerator.generate_samples = begins("rollout", PartialSamplesGenerator.generate_samples)
    RemoteExperienceMaker.make_experience_batch = begins("experience", RemoteExperienceMaker.make_experience_batch)
    RayActorGroup.async_run_method = begins(None, RayActorGroup.async_run_method)
    return []
