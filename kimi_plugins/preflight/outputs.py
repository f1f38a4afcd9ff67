"""Where a run writes, and the checkpoint it resumes from."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from openrlhf.utils import checkpoint

from kimi_plugins.preflight import batches

LEAST_FREE = 10**9  # bytes


def _outputs(args) -> dict[str, str]:
    """Directories the run will certainly write to."""
    used = {"ckpt.output_dir": args.ckpt.output_dir}
    saves_best = args.eval.steps > 0 and getattr(args.ckpt, "best_metric_key", "none") != "none"
    if args.ckpt.save_steps > 0 or saves_best:
        used["ckpt.path"] = args.ckpt.path
    if args.logger.tensorboard_dir:
        used["logger.tensorboard_dir"] = args.logger.tensorboard_dir
    return used


def check_directories(args) -> Iterator[str]:
    for key, path in _outputs(args).items():
        target = Path(path).absolute()
        existing = next(parent for parent in (target, *target.parents) if os.path.exists(parent))
        if not existing.is_dir():
            yield f"{key}: {path} cannot be made, {existing} is a file; choose another directory"
        elif not os.access(existing, os.W_OK | os.X_OK):
            yield f"{key}: {path} cannot be written, {existing} is read-only; choose another directory"
        elif (free := shutil.disk_usage(existing).free) < LEAST_FREE:
            yield f"{key}: {path} has {free / 1e9:.2f} GB of disk left; free 1 GB or choose another disk"


def _check_ranks(args, checkpoint_path: Path, ranks: int) -> Iterator[str]:
    """ZeRO's optimizer states are in a file for each rank, and DeepSpeed loads them into as many ranks only."""
    saved = len(list(checkpoint_path.glob("*_optim_states.pt")))
    if args.ds.zero_stage > 0 and saved not in (0, ranks):
        yield (
            f"ckpt.load_enable: {checkpoint_path} is of {saved} ranks, this run has {ranks}, and DeepSpeed with "
            f"ds.zero_stage {args.ds.zero_stage} goes on with as many only; give it {saved} ranks"
        )


def _check_resume(args, directory: Path, find_whole, ranks: int) -> Iterator[str]:
    """find_whole(): its tag; raises FileNotFoundError if there is no whole checkpoint to resume from."""
    if not checkpoint.to_resume(args, directory):
        return
    fix = "correct ckpt.path, or start from step 0 with --resume auto instead of --resume"
    if args.ds.use_universal_ckpt:
        if not (directory / "latest_universal").is_file():
            yield f"ckpt.load_enable: no checkpoint in {directory} (it has no file 'latest_universal'); {fix}"
    elif not directory.is_dir():
        yield f"ckpt.load_enable: no checkpoint, {directory} does not exist; {fix}"
    else:
        try:
            yield from _check_ranks(args, directory / find_whole(), ranks)
        except FileNotFoundError as error:
            yield f"ckpt.load_enable: {error}; {fix}"


def check_resume(args) -> Iterator[str]:
    directory = Path(args.ckpt.path)
    yield from _check_resume(args, directory, lambda: checkpoint.find_whole(directory), batches.trainer_ranks())


def check_rl_resume(args) -> Iterator[str]:
    directory = Path(args.ckpt.path)
    ranks = batches.groups(args)["actor"]
    yield from _check_resume(args, directory / "_actor", lambda: checkpoint.find_whole_of_run(directory), ranks)
