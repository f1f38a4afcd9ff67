"""Every flag of OpenRLHF 0.5.0 to 0.10.4 is answered with what it is now."""

import importlib
from pathlib import Path

import pytest
from openrlhf.cli import main as host
from openrlhf.cli import old_flags

ROWS = [line.split() for line in Path(__file__).with_name("old_flags.txt").read_text().splitlines() if line[0] != "#"]
# What "did you mean" by spelling alone answered otherwise, or not at all, and a few more.
NOW = {
    "--reward_pretrain": "--reward.model_name_or_path",
    "--micro_train_batch_size": "--train.micro_batch_size",
    "--n_samples_per_prompt": "--rollout.n_samples_per_prompt",
    "--critic_learning_rate": "--critic.adam.lr",
    "--async_train": "--train.async_enable",
    "--gamma": "--algo.advantage.gamma",
    "--save_path": "--ckpt.output_dir",
    "--dynamic_filtering": "--algo.dynamic_filtering_enable",
    "--freezing_actor_steps": "--critic.freezing_steps",
    "--init_kl_coef": "--algo.kl.init_coef",
    "--generate_max_len": "--rollout.max_new_tokens",
}


@pytest.fixture(scope="module")
def parsers():
    return {
        command: {option: action for action in parser._actions for option in action.option_strings}
        for command, (module, _) in host.TRAINERS.items()
        for parser in [importlib.import_module(module).get_parser()]
    }


def takes(action) -> str:
    return "switch" if action.nargs == 0 else "value" if action.nargs is None else "values"


@pytest.mark.parametrize(("command", "flag", "kind"), ROWS)
def test_each_flag_is_known_or_answered_with_flags_of_its_kind(parsers, command, flag, kind):
    known = parsers[command]
    if flag in known:
        return
    assert old_flags.answer(flag, known).startswith("; ")
    names = old_flags.new_names(flag, {name.removeprefix("--") for name in known})
    settings = old_flags.REPLACED.get(flag.removeprefix("--"), {})
    assert {f"--{key}" for key in settings} <= known.keys()
    if names and flag != "--vllm_is_truncated_threshold":  # of which one value is allowed now
        assert {takes(known[f"--{name}"]) for name in names} == {kind}
    kinds = [*names, *settings, flag.removeprefix("--") in old_flags.REPLACED_BY_VALUE]
    assert any(kinds) or flag.removeprefix("--") in old_flags.GONE


@pytest.mark.parametrize(("old", "now"), NOW.items())
def test_the_command_says_it(openrlhf, old, now):
    code, _, errors = openrlhf("train", old, "1", "--dry-run")
    assert code == 2
    assert f"unknown flag {old}; did you mean {now!r}?" in errors


def test_no_name_is_both_old_and_new_and_none_is_in_two_tables(parsers):
    tables = [old_flags.RENAMED, old_flags.REPLACED, old_flags.REPLACED_BY_VALUE, old_flags.GONE]
    assert sum(map(len, tables)) == len(set().union(*tables))
    everything = set().union(*parsers.values())
    for names in old_flags.RENAMED.values():
        assert {f"--{name}" for name in names.split()} <= everything


def test_replaced_values_are_allowed_ones(parsers):
    by_value = [new for choices in old_flags.REPLACED_BY_VALUE.values() for new in choices.values()]
    for settings in [*old_flags.REPLACED.values(), *by_value]:
        for key, value in settings.items():
            choices = parsers["train"][f"--{key}"].choices
            assert choices is None or value in choices
