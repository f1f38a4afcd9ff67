"""Each hook: documented, called with the arguments of its specification, its return value used or refused."""

import ast
import inspect
from pathlib import Path
from types import SimpleNamespace

import openrlhf
import pytest
import torch
from openrlhf import hookspecs, plugins
from openrlhf.plugins import PluginError

HOOKS = {name: spec for name, spec in vars(hookspecs).items() if name.startswith("openrlhf_")}
SINGLE_PROVIDER = {
    "openrlhf_load_dataset",
    "openrlhf_engine_args",
    "openrlhf_prompt_label",
    "openrlhf_prompt_sampler",
    "openrlhf_reward_function",
    "openrlhf_rollout_temperature",
    "openrlhf_samples_generator",
    "openrlhf_group_advantages",
    "openrlhf_policy_loss",
    "openrlhf_before_optimizer_step",
}
# What a hook accepts, and what it refuses with the text of the refusal.
ACCEPTED = {
    "openrlhf_validate_config": ["a problem"],
    "openrlhf_check_machine": [],
    "openrlhf_engine_args": {"max_num_seqs": 8},
    "openrlhf_load_dataset": SimpleNamespace(column_names=["input"]),
    "openrlhf_prompt_sampler": [2, 0, 1],
    "openrlhf_prompt_columns": ["pair"],
    "openrlhf_prompt_label": {"kind": "math"},
    "openrlhf_reward_function": print,
    "openrlhf_rollout_temperature": 0.8,
    "openrlhf_samples_generator": SimpleNamespace(generate_samples=print),
    "openrlhf_group_advantages": torch.tensor([[0.5, -0.5], [0.0, 0.0]]),
    "openrlhf_policy_loss": torch.nn.Identity(),
    "openrlhf_before_optimizer_step": True,
    "openrlhf_metrics": {"a": 1.0},
}
REFUSED = {
    "openrlhf_load_dataset": [(["a row"], "a datasets.Dataset or None, not list")],
    "openrlhf_validate_config": [("a problem", "list of strings or None, not str"), ([1], "list of strings")],
    "openrlhf_check_machine": [(("a problem",), "list of strings or None, not tuple")],
    "openrlhf_prompt_sampler": [(iter([0]), "a sampler with __iter__ and __len__ or None, not list_iterator")],
    "openrlhf_prompt_columns": [("pair", "list of strings or None, not str")],
    "openrlhf_reward_function": [("reward.py", "a function or None, not str")],
    "openrlhf_engine_args": [(["max_num_seqs"], "a dict or None, not list")],
    "openrlhf_rollout_temperature": [
        (0.0, "a finite float above 0 or None, not float"),
        (float("nan"), "a finite float above 0"),
        (float("inf"), "a finite float above 0"),
        ("0.8", "a finite float above 0 or None, not str"),
    ],
    "openrlhf_samples_generator": [(print, "an openrlhf SamplesGenerator or None, not builtin_function_or_method")],
    "openrlhf_group_advantages": [
        (torch.zeros(4), "a tensor shaped like rewards or None, not Tensor torch.Size([4])"),
        ([[0.5, -0.5], [0.0, 0.0]], "a tensor shaped like rewards or None, not list"),
    ],
    "openrlhf_policy_loss": [(3.0, "a torch.nn.Module or None, not float")],
    "openrlhf_before_optimizer_step": [(1, "true or false or None, not int")],
    "openrlhf_metrics": [(("a", 1.0), "a dict or None, not tuple")],
}


def arguments(name):
    return list(inspect.signature(HOOKS[name]).parameters)


def values(name):
    rewards = {"rewards": torch.tensor([[1.0, 0.0], [1.0, 1.0]])}  # [P, k]
    return {argument: rewards.get(argument, f"the {argument}") for argument in arguments(name)}


def load_recorder(install, name):
    """A plugin with one hook that takes every argument, records them and returns `answer`."""
    names = ", ".join(arguments(name))
    code = f"calls, answer = [], None\ndef {name}({names}):\n    calls.append(({names},))\n    return answer"
    install("recorder", code, {"recorder": ""})
    plugins.load(["recorder"])
    return plugins._manager.get_plugin("recorder")


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_documents_its_arguments_its_return_and_its_process(name):
    doc = HOOKS[name].__doc__
    assert "Runs in " in doc and "eturns" in doc
    for argument in arguments(name):
        assert argument in doc, argument
    assert ("single provider" in doc) == (name in SINGLE_PROVIDER)


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_gets_every_argument_and_its_answer_arrives(install, name):
    recorder = load_recorder(install, name)
    recorder.answer = ACCEPTED.get(name)
    given = values(name)
    result = getattr(plugins.hook, name)(**given)
    (call,) = recorder.calls
    assert all(got is value for got, value in zip(call, given.values(), strict=True))
    if name in SINGLE_PROVIDER:
        assert result is recorder.answer
    else:
        assert result == ([] if recorder.answer is None else [recorder.answer])


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_may_return_none(install, name):
    load_recorder(install, name)
    assert getattr(plugins.hook, name)(**values(name)) == (None if name in SINGLE_PROVIDER else [])


@pytest.mark.parametrize("name, answer, text", [(name, *case) for name, cases in REFUSED.items() for case in cases])
def test_a_wrong_answer_is_refused_by_name(install, name, answer, text):
    load_recorder(install, name).answer = answer
    with pytest.raises(PluginError) as caught:
        getattr(plugins.hook, name)(**values(name))
    assert str(caught.value).startswith(f"plugin 'recorder': {name} must return ")
    assert text in str(caught.value)


def test_a_hook_may_take_fewer_arguments(install):
    install("short", "def openrlhf_group_advantages(rewards, args):\n    return -rewards", {"short": ""})
    plugins.load(["short"])
    given = values("openrlhf_group_advantages")
    assert torch.equal(plugins.hook.openrlhf_group_advantages(**given), -given["rewards"])


def hook_calls():
    """[(hook, names of the arguments)] of every call in the package, `hook.x(…)` or `problems("x", …)`."""
    calls = []
    for path in Path(openrlhf.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            named = node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value in HOOKS
            if named:
                name = node.args[0].value
            elif isinstance(node.func, ast.Attribute) and node.func.attr.startswith("openrlhf_"):
                name = node.func.attr
            else:
                continue
            calls.append((name, [keyword.arg for keyword in node.keywords] + [arg.id for arg in node.args[1:]]))
    return calls


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # an escape sequence in a docstring of the package
def test_the_package_calls_every_hook_with_exactly_its_arguments():
    calls = hook_calls()
    assert {name for name, _ in calls} == set(HOOKS)
    for name, given in calls:
        assert sorted(given) == sorted(arguments(name)), name
