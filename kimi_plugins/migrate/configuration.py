"""The training commands of a script, and each as a configuration of today's flags."""

import argparse
import importlib
import re
from dataclasses import dataclass, field

from openrlhf.cli import old_flags
from openrlhf.cli.config import SECRET, split_flags, written
from openrlhf.cli.main import TRAINERS, add_host_arguments

from kimi_plugins import options
from kimi_plugins.migrate.shell import NAME, Script, Word

MODULE = re.compile(
    r"(?:.*[./])?(train_ppo_ray|train_ppo|train_sft|train_dpo|train_rm|train_kto|train_kd|train_prm)(?:\.py)?"
)
COMMANDS = {"train_ppo_ray": "train", "train_ppo": "train", "train_sft": "sft", "train_dpo": "dpo", "train_rm": "rm"}
GONE = {
    "train_kto": "KTO is no longer in OpenRLHF: train on pairs with `openrlhf dpo`",
    "train_kd": "distillation is no longer in OpenRLHF: train on the teacher's responses with `openrlhf sft`",
    "train_prm": "process reward models are no longer in OpenRLHF",
}
OWN = {"--config", "--dry-run", "--yaml", "--help", "-h", "--local_rank"}  # of the command or a launcher, no keys
VARIABLE = re.compile(rf"\$\{{?({NAME.pattern})\}}?")
CORRECTIONS = {"enable_vllm_is_correction", "algo.advantage.is_correction_enable"}


@dataclass
class Training:
    """A training command of a script: where it stands, the trainer, how it is launched, its flags."""

    line: int
    command: str  # of openrlhf: train, sft, dpo or rm
    launch: list[Word]  # what stands before the trainer's name
    flags: list[Word]
    plugins: str = ""  # OPENRLHF_PLUGINS, where the command sets it


@dataclass
class Migrated:
    """lines: of the file, without its head. problems: what needs a hand, each with its line of the script."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def trainings(text: str, variables: dict[str, str]) -> tuple[list[Training], list[str]]:
    """(the training commands of a script, what it has besides them that needs a hand).

    variables: values of variables that the script does not set.
    """
    found: list[Training] = []
    problems: list[str] = []
    script = Script(variables)
    for words in script.commands(text):
        _add(words, script, found, problems)
    if not found and not problems:  # defined here, launched by another script
        for variable in script.variables.values():
            if "train_" in variable.text and " " in variable.text:
                _add(script.words(variable), script, found, problems)
    return found, problems


def _add(words: list[Word], script: Script, found: list[Training], problems: list[str]) -> None:
    if words[0].text in ("echo", "printf"):
        return
    for number, word in enumerate(words):
        match = MODULE.fullmatch(word.text)
        own = word.text if number and words[number - 1].text.endswith("openrlhf") and word.text in TRAINERS else None
        if own or (match and match[1] in COMMANDS):
            command = own or COMMANDS[match[1]]  # type: ignore[index]
            plugins = [
                item.text.partition("=")[2] for item in words[:number] if item.text.startswith("OPENRLHF_PLUGINS=")
            ]
            found.append(Training(word.line, command, words[:number], words[number + 1 :], *plugins[-1:]))
            return
        if match:
            problems.append(f"line {word.line}: {match[1]}: {GONE[match[1]]}")
            return
        if re.search(r"\btrain_\w+.*\s--|openrlhf (train|sft|dpo|rm)\s", word.text, re.DOTALL):  # bash -c "…"
            line = word.line - word.text.count("\n")
            for inner in Script({name: variable.text for name, variable in script.variables.items()}).commands(
                word.text, line
            ):
                _add(inner, script, found, problems)
            return
    if words[0].text.startswith("--") and found:
        cut = f"cut off from the command of line {found[-1].line} by a comment or a missing backslash before it"
        problems.append(f"line {words[0].line}: {words[0].text} and what follows never reached a trainer: {cut}")


def parser_of(command: str) -> argparse.ArgumentParser:
    """The trainer's parser with the command's own flags and, for RL, those of all our plugins."""
    parser = importlib.import_module(TRAINERS[command][0]).get_parser()
    add_host_arguments(parser)
    if command == "train":
        for section in options.SECTIONS:
            options.add_arguments(parser, section)
    return parser


def migrate(training: Training, parser: argparse.ArgumentParser) -> Migrated:
    """The training's flags as lines of a configuration, in the order of the script."""
    actions = {option: action for action in parser._actions for option in action.option_strings}
    known = {option.removeprefix("--") for option in actions}
    lines_of: dict[int, Word] = {}
    groups = [
        _group(tokens, training.flags, lines_of) for tokens in split_flags([w.text for w in training.flags], actions)
    ]
    names = {group[0].text.partition("=")[0].removeprefix("--") for group in groups}
    entries: dict[str, tuple[str, str]] = (
        {"plugins": (training.plugins, "OPENRLHF_PLUGINS")} if training.plugins else {}
    )
    result = Migrated()
    # What the switch of a correction turns on, the flag of its type may change, whichever stands first.
    groups.sort(key=lambda group: group[0].text.removeprefix("--") not in CORRECTIONS)
    for group in groups:
        flag, equals, value = group[0].text.partition("=")
        texts = ([value] if equals else []) + [word.text for word in group[1:]]
        key, source = flag.removeprefix("--"), f"line {group[0].line}"
        unknown = sorted({name for word in group for name in word.unknown})
        if unknown and SECRET not in old_flags.new_names(key, known) and key != SECRET:
            names_of = [match[1] for name in unknown if (match := VARIABLE.fullmatch(name))]
            fix = f"; give {' '.join(f'--set {name}=…' for name in names_of)}" if names_of else ""
            result.problems.append(f"{source}: {flag}: the script does not say what {', '.join(unknown)} is{fix}")
        if flag in OWN:
            continue
        if not flag.startswith("--"):
            result.problems.append(f"{source}: {flag!r} is not a flag")
        elif flag in actions:
            _enter(entries, key, actions[flag], texts, source, result)
        elif new := old_flags.new_names(key, known):
            for name in new:
                _enter(entries, name, actions[f"--{name}"], texts, f"{source}, {flag}", result)
        elif key in old_flags.REPLACED:
            entries |= {name: (text, f"{source}, {flag}") for name, text in old_flags.REPLACED[key].items()}
        elif key in old_flags.REPLACED_BY_VALUE and texts and texts[0] in old_flags.REPLACED_BY_VALUE[key]:
            if names & CORRECTIONS:  # without them it had no effect
                settings = old_flags.REPLACED_BY_VALUE[key][texts[0]]
                entries |= {name: (text, f"{source}, {flag} {texts[0]}") for name, text in settings.items()}
        elif key in old_flags.GONE:
            result.lines.append(f"# {source}: {flag} {' '.join(texts)}".rstrip() + f": {old_flags.GONE[key]}")
        else:
            hint = old_flags.answer(flag, actions) or "; no release of OpenRLHF that is known here has it"
            result.problems.append(f"{source}: unknown flag {' '.join([flag, *texts])}{hint}")
    _total_length(groups, entries, names)
    secret = entries.pop(SECRET, None)
    result.lines += [f"{key}: {text}  # {source}" for key, (text, source) in entries.items()]
    if secret:
        result.lines.append(f"# {secret[1]}: a secret, which belongs on the command line: --{SECRET} KEY")
    return result


def _group(tokens: list[str], words: list[Word], taken: dict[int, Word]) -> list[Word]:
    """The words of the next flag's tokens."""
    start = len(taken)
    group = words[start : start + len(tokens)]
    taken.update(enumerate(group, start=start))
    return group


def _enter(entries: dict, key: str, action: argparse.Action, texts: list[str], source: str, result: Migrated) -> None:
    if action.nargs == 0:
        text = "false" if key.startswith("no-") else "true"
        key = key.removeprefix("no-")
        if texts:
            result.problems.append(f"{source}: {key} takes no value: {' '.join(texts)} is left out")
    elif not texts and action.nargs is None:
        result.problems.append(f"{source}: {key} has no value")
        return
    else:
        text = written(texts or [action.const])
    entries.pop(key, None)  # the last one counts
    entries[key] = (text, source)


def _total_length(groups: list[list[Word]], entries: dict[str, tuple[str, str]], names: set[str]) -> None:
    """What were limits of prompt and response, 1,024 tokens each by default, is one of both together now."""
    if not names & {"prompt_max_len", "generate_max_len"} or "data.max_len" in entries:
        return
    limits = {"prompt_max_len": "1024", "generate_max_len": "1024"}
    for group in groups:
        flag, _, value = group[0].text.removeprefix("--").partition("=")
        if flag in limits:
            limits[flag] = value or (group[1].text if len(group) > 1 else "")
    if all(limit.isdigit() for limit in limits.values()):
        total = sum(map(int, limits.values()))
        entries["data.max_len"] = (str(total), "prompt_max_len + generate_max_len, of prompt and response together")
        entries.setdefault("rollout.max_new_tokens", (limits["generate_max_len"], "the default of generate_max_len"))
