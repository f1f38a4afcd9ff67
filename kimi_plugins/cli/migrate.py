"""The command `openrlhf kimi migrate`."""

import argparse
import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from kimi_plugins.cli.command import add_command


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "migrate",
        run,
        help="turn a launch script of OpenRLHF, of today or from 0.5 on, into a configuration",
        description="Read a shell script that starts train_ppo_ray, train_sft, train_dpo or train_rm, without running "
        "any of it, and print each training as a configuration for `openrlhf train|sft|dpo|rm --config`: today's "
        "names for older flags, the line of the script beside each value, and as comments what kimi-policy would "
        "need. What needs a hand is listed on stderr, with its line. Exit code 0: nothing does; 1: something does; "
        "2: there is no training in the script.",
        example="migrate train_ppo_ray.sh --out run.yaml",
        unfinished=lambda args: "nothing was written",
    )
    add = parser.add_argument
    add("script", type=Path, metavar="SCRIPT.sh", help="launch script to read")
    add("--out", type=Path, metavar="FILE.yaml", help="write here; with several trainings FILE-1.yaml, FILE-2.yaml …")
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of a variable that the script does not set itself; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """1 if something needs a hand, else 0."""
    from kimi_plugins.migrate.configuration import trainings

    if wrong := [item for item in args.set if "=" not in item]:
        raise ValueError(f"--set {wrong[0]}: expected NAME=VALUE")
    text = args.script.read_text(encoding="utf-8")
    found, problems = trainings(text, dict(item.split("=", 1) for item in args.set))
    if not found:
        reasons = "; ".join(problems) or "it starts none of train_ppo_ray, train_sft, train_dpo, train_rm"
        raise ValueError(f"{args.script}: no training to migrate: {reasons}")
    if len(found) > 1 and args.out is None:
        lines = ", ".join(str(training.line) for training in found)
        raise ValueError(f"{args.script} has {len(found)} trainings (lines {lines}), and a file is of one: give --out")
    for number, training in enumerate(found, start=1):
        name = args.out or Path("FILE.yaml")
        path = name.with_stem(f"{name.stem}-{number}") if len(found) > 1 else name
        document, more = configuration(training, args.script, path)
        problems += more
        if args.out is None:
            print(document, end="")
        else:
            path.write_text(document, encoding="utf-8")
            print(f"wrote {path}: openrlhf {training.command} --config {path}", file=sys.stderr)
    for problem in problems:
        print(f"{args.script}: {problem}", file=sys.stderr)
    return 1 if problems else 0


def configuration(training, script: Path, path: Path) -> tuple[str, list[str]]:
    """(the file, what needs a hand) of one training; `path` is what the file is called in it."""
    from kimi_plugins.migrate.configuration import migrate, parser_of

    with contextlib.redirect_stdout(sys.stderr):  # DeepSpeed speaks when it is imported
        migrated = migrate(training, parser_of(training.command))
    lines = [f"# {script}, line {training.line}; run it with", f"#   {launch(training, path)}", *migrated.lines]
    missing = dry_run(training.command, lines)
    problems = migrated.problems + [
        f"line {training.line}: the configuration is not complete: {text}" for text in missing
    ]
    if problems:
        lines += ["", "# Needs a hand", *(f"# {problem}" for problem in problems)]
    if training.command == "train" and not missing:
        needs = dry_run("train", [line for line in lines if not line.startswith("plugins:")], "kimi-policy")
        lines += [
            "",
            "# With kimi-policy (plugins: kimi-policy), k1.5's policy optimization",
            *(f"# {need}" for need in needs),
        ]
        lines += [] if needs else ["# nothing else has to change"]
    return "\n".join(lines) + "\n", problems


def launch(training, path: Path) -> str:
    """How the training is started with the file, by what started it in the script."""
    words = [word.text for word in training.launch]
    own = ["openrlhf", training.command, "--config", str(path)]
    launchers = [n for n, word in enumerate(words) if os.path.basename(word) in ("deepspeed", "torchrun", "ray")]
    if not launchers:
        return shlex.join(own)
    kept = words[launchers[0] :]
    if os.path.basename(kept[0]) == "ray":
        return shlex.join([*kept[: kept.index("--") + 1], *own]) if "--" in kept else shlex.join(own)
    module = ["--module"] if os.path.basename(kept[0]) == "deepspeed" else ["-m"]
    kept = [word for word in kept if word not in ("--module", "-m")]
    return shlex.join([*kept, *module, "openrlhf.cli.main", *own[1:]])


def dry_run(command: str, lines: list[str], plugins: str = "") -> list[str]:
    """The problems that `openrlhf COMMAND --dry-run` has with a file of these lines; a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "run.yaml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        words = [sys.executable, "-m", "openrlhf.cli.main", command, "--config", str(path), "--dry-run"]
        words += ["--plugins", plugins] if plugins else []
        environment = {name: value for name, value in os.environ.items() if name != "OPENRLHF_PLUGINS"}
        errors = subprocess.run(words, env=environment, capture_output=True, text=True).stderr
    problems = [line.strip() for line in errors.splitlines() if line.startswith("  ")]
    return [problem.replace(f"{path}:", "its line ") for problem in problems]
