"""Checks of a run's configuration, data and machine before anything heavy starts.

Each check_* function yields one line per problem, naming key, value and fix. They refuse only what would certainly
fail later, hang, or silently train nothing; where that cannot be known from here (data on the hub), they stay silent.
The machines of a Ray cluster are asked last, when all is well on this one. Importing this loads neither torch, Ray,
vLLM, DeepSpeed, transformers nor datasets.
"""

import sys
from collections.abc import Sequence

from kimi_plugins.preflight import batches, cluster, data, join, machine, models, outputs, rewards, values

# The first check of each command guards the divisors that all others use.
_TRAINER_BATCHES = (batches.check_trainer_sizes, batches.check_trainer_batches)
CONFIGURATION_CHECKS = {
    "train": (
        batches.check_rl_sizes,
        values.check_ranges,
        values.check_effects,
        data.check_template,
        batches.check_rollout_batches,
        batches.check_async,
        batches.check_optimizer,
        batches.check_response_room,
        batches.check_adapters,
        machine.check_placement,
        rewards.check_reward_choice,
    ),
    "sft": _TRAINER_BATCHES,
    "dpo": _TRAINER_BATCHES,
    "rm": _TRAINER_BATCHES,
}

_SHARED = (machine.check_attention, machine.check_packages, outputs.check_resume, outputs.check_directories)
MACHINE_CHECKS = {
    "train": (
        models.check_policy_models,
        models.check_chat_template,
        models.check_parts,
        models.check_adapted_layers,
        models.check_vision,
        rewards.check_reward,
        machine.check_gpus,
        machine.check_cpu_settings,
        machine.check_packages,
        machine.check_loader,
        machine.check_cores,
        machine.check_memory,
        machine.check_rl_attention,
        cluster.check_ray,
        outputs.check_directories,
        outputs.check_rl_resume,
    ),
    "sft": (models.check_model, data.check_sft_data, *_SHARED),
    "dpo": (models.check_model, models.check_reference, data.check_preferences, *_SHARED),
    "rm": (models.check_scoring_model, data.check_reward_model_data, *_SHARED),
}


def configuration_problems(args, command: str) -> list[str]:
    """What is wrong with a configuration, on whatever machine it runs.

    Args:
        args: nested namespace of the trainer's flags (args.actor.model_name_or_path), before or after its own checks.
        command: "train", "sft", "dpo" or "rm".

    Returns:
        One line per problem; empty when nothing was found.
    """
    sizes, *checks = CONFIGURATION_CHECKS[command]
    return list(sizes(args)) or [problem for check in checks for problem in check(args)]


def say_notes(args, command: str) -> None:
    """Print what of a configuration, and of the environment, is set and does nothing here, though it does no harm."""
    for note in (*values.notes(args), *machine.cpu_notes(args)) if command == "train" else ():
        print(f"kimi-preflight: {note}", file=sys.stderr)


def machine_problems(args, command: str, row_checks: Sequence = ()) -> list[str]:
    """What this machine lacks for a valid configuration: models, data, devices, memory, ports. Same types as above.

    row_checks: what other plugins ask of every row of the prompts (data.training.RowCheck).
    """
    problems = [problem for check in MACHINE_CHECKS[command] for problem in check(args)]
    if command != "train":
        return problems
    problems += data.check_prompts(args, row_checks)
    return problems or list(join.check_cluster(args))
