"""The plugin that chaos.py adds to its runs: it writes down when each phase of the trainer begins.

A line a phase in the file that CHAOS_PHASES names: Unix seconds, phase.
"""

import os
import time

from openrlhf.plugins import hookimpl


def mark(phase: str) -> None:
    with open(os.environ["CHAOS_PHASES"], "a") as file:
        file.write(f"{time.time():.4f} {phase}\n")


def begins(phase: str, method, afterwards: str | None = None):
    """The method with a mark before it and, if `afterwards` is given, one when it has returned."""

    def marked(*args, **kwargs):
        mark(phase)
        value = method(*args, **kwargs)
        if afterwards:
            mark(afterwards)
        return value

    return marked


@hookimpl
def openrlhf_prompt_columns(args):
    """Called once, in the trainer's process, before the first step; names no column."""
    from openrlhf.trainer.ppo_trainer import BasePPOTrainer as Trainer

    Trainer.init_checkpoint_states = begins("start-up", Trainer.init_checkpoint_states, "rollout")
    Trainer.train_step = begins("experience", Trainer.train_step)
    Trainer.ppo_train = begins("training", Trainer.ppo_train)
    Trainer.broadcast_to_vllm = begins("weight sync", Trainer.broadcast_to_vllm, "rollout")
    Trainer.save_logs_and_checkpoints = begins("checkpoint", Trainer.save_logs_and_checkpoints, "rollout")
    return []
