"""Loading plugins: what is found, and every mistake refused by name."""

import os
import subprocess
import sys

import pytest
from openrlhf import plugins
from openrlhf.plugins import PluginError

LENGTHS = """
    class Length:
        def openrlhf_validate_config(self, args, command):
            return [f"{args}/{command} is too long"]

    class Metrics:
        def openrlhf_metrics(self, step):
            return {"steps": step}

    class All:
        openrlhf_plugins = ("length", "metrics")
"""
POINTS = {"length": "Length", "metrics": "Metrics", "everything": "All"}


def class_plugin(body):
    return "class Plugin:\n" + "\n".join("    " + line for line in body.strip().splitlines())


def test_without_plugins_the_hooks_return_nothing():
    assert plugins.loaded() == []
    assert plugins.hook.openrlhf_policy_loss(args=None) is None
    assert plugins.hook.openrlhf_group_advantages(rewards=None, experiences=None, args=None) is None
    assert plugins.hook.openrlhf_before_policy_update(actor=1, optimizer=2, scheduler=3, args=4) == []
    assert plugins.problems("openrlhf_validate_config", None, "train") == []
    assert plugins.metrics([], 1, None) == {}


def test_a_module_can_be_a_plugin(install):
    install("as-module", "def openrlhf_metrics(step):\n    return {'a': step}", {"module": ""})
    plugins.load(["module"])
    assert plugins.metrics([], 3, None) == {"a": 3}


def test_a_bundle_loads_its_members_once(install):
    install("lengths", LENGTHS, POINTS)
    plugins.load(["length", "everything", "length"])
    plugins.load(["everything"])
    assert plugins.loaded() == ["length", "metrics"]
    assert plugins.metrics([], 5, None) == {"steps": 5}
    assert plugins.problems("openrlhf_validate_config", "args", "sft") == ["length: args/sft is too long"]


def test_bundles_that_name_each_other_end(install):
    code = LENGTHS + "\n    class Ring:\n        openrlhf_plugins = ('everything', 'ring')\n"
    install("ring", code, POINTS | {"ring": "Ring"})
    plugins.load(["ring"])
    assert plugins.loaded() == ["length", "metrics"]


def test_unknown_names_are_all_refused_and_the_known_ones_listed(install):
    install("lengths", LENGTHS, POINTS)
    with pytest.raises(PluginError) as caught:
        plugins.load(["lenght", "metrics", "zzzzzz"])
    first, second = caught.value.args
    assert first.startswith("unknown plugin 'lenght'; did you mean 'length'? (installed: ")
    assert "everything" in first and "metrics" in first
    assert second.startswith("unknown plugin 'zzzzzz' (installed: ")
    assert plugins.loaded() == []


def test_nothing_is_installed(monkeypatch):
    from importlib.metadata import EntryPoints

    monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints())
    with pytest.raises(PluginError, match=r"^unknown plugin 'length' \(no plugin is installed\)$"):
        plugins.load(["length"])


def test_a_bundle_with_an_unknown_member_is_named(install):
    install("half", "class Half:\n    openrlhf_plugins = ('nothing-like-it',)", {"half": "Half"})
    with pytest.raises(PluginError, match="^unknown plugin 'nothing-like-it' \\(named by bundle 'half'\\)"):
        plugins.load(["half"])


def test_an_import_error_keeps_its_cause_and_place(install):
    install("broken", "\nimport no_such_module", {"broken": ""})
    with pytest.raises(PluginError) as caught:
        plugins.load(["broken"])
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert (
        "plugin 'broken' of broken cannot be imported: ModuleNotFoundError: No module named 'no_such_module' ("
        in str(caught.value)
    )
    assert "broken.py:3)" in str(caught.value)


def test_a_name_in_two_distributions_is_refused(install):
    install("first", LENGTHS, {"length": "Length"})
    install("second", LENGTHS, {"length": "Length"})
    with pytest.raises(PluginError, match="'length' is in two distributions, (first and second|second and first)"):
        plugins.load(["length"])


@pytest.mark.parametrize(
    "body, message",
    [
        (
            "def openrlhf_polcy_loss(self, args): ...",
            "plugin 'wrong': unknown hook 'openrlhf_polcy_loss'; did you mean 'openrlhf_policy_loss'?",
        ),
        (
            "def openrlhf_policy_loss(self, arg): ...",
            "plugin 'wrong': openrlhf_policy_loss has no argument 'arg'; it takes args",
        ),
        (
            "def openrlhf_policy_loss(self, **kwargs): ...",
            "plugin 'wrong': openrlhf_policy_loss has no argument 'kwargs'; it takes args",
        ),
        (
            "def openrlhf_policy_loss(self, args=None): ...",
            "plugin 'wrong': argument 'args' of openrlhf_policy_loss has a default, so it may not be passed: "
            "remove the default",
        ),
        ("def policy_loss(self, args): ...", "plugin 'wrong' implements no hook: it has no function named openrlhf_…"),
    ],
)
def test_a_mistake_in_a_plugin_is_named(install, body, message):
    install("wrong", class_plugin(body), {"wrong": "Plugin"})
    with pytest.raises(PluginError) as caught:
        plugins.load(["wrong"])
    assert caught.value.args == (message,)
    assert plugins.loaded() == []


def test_two_providers_of_one_single_provider_hook_are_refused(install):
    code = class_plugin("def openrlhf_policy_loss(self, args): ...")
    install("loss-a", code, {"a": "Plugin"})
    install("loss-b", code, {"b": "Plugin"})
    message = "^plugins 'a' and 'b' both provide openrlhf_policy_loss, which takes one provider: load only one$"
    with pytest.raises(PluginError, match=message):
        plugins.load(["a", "b"])
    plugins.load(["a"])
    with pytest.raises(PluginError, match=message):
        plugins.load(["b"])
    assert plugins.loaded() == ["a"]


def test_two_plugins_may_share_a_hook_that_collects(install):
    install("lengths", LENGTHS, POINTS)
    install("more", "def openrlhf_metrics(step):\n    return {'more': 2 * step}", {"more": ""})
    plugins.load(["metrics", "more"])
    assert plugins.metrics([], 3, None) == {"steps": 3, "more": 6}


def test_the_same_metric_from_two_plugins_is_refused(install):
    install("lengths", LENGTHS, POINTS)
    install("again", "def openrlhf_metrics():\n    return {'steps': 0}", {"again": ""})
    plugins.load(["metrics", "again"])
    with pytest.raises(
        PluginError, match="^plugins 'metrics' and 'again' both return the metric 'steps': rename one$"
    ):
        plugins.metrics([], 1, None)


@pytest.mark.parametrize("names", [["good", "bad", "around"], ["around", "bad", "good"], ["bad"]])
def test_a_plugin_that_raises_is_named_with_hook_and_place(install, names):
    code = """
        import functools

        def traced(function):
            @functools.wraps(function)
            def call(*args):
                return function(*args)
            return call

        class Good:
            @traced
            def openrlhf_before_policy_update(self, actor): ...

        class Bad:
            @traced
            def openrlhf_before_policy_update(self, actor):
                raise ValueError(f"no {actor}")

        class Around:
            @hookimpl(wrapper=True)
            def openrlhf_before_policy_update(self, actor):
                return (yield)
    """
    install("raising", code, {"good": "Good", "bad": "Bad", "around": "Around"})
    plugins.load(names)
    with pytest.raises(PluginError) as caught:
        plugins.hook.openrlhf_before_policy_update(actor="actor", optimizer=0, scheduler=0, args=0)
    text = str(caught.value)
    assert text.startswith("plugin 'bad' failed in openrlhf_before_policy_update: ValueError: no actor (")
    assert text.endswith("raising.py:18)")
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.filterwarnings("ignore:Argument")
def test_a_call_that_lacks_an_argument_blames_no_plugin(install):
    install("lengths", LENGTHS, POINTS)
    plugins.load(["metrics"])
    with pytest.raises(Exception, match="hook call must provide argument 'step'") as caught:
        plugins.hook.openrlhf_metrics(experiences=[], args=None)
    assert not isinstance(caught.value, PluginError)


def test_installed_lists_plugins_bundles_and_errors(install):
    install("lengths", LENGTHS, POINTS, version="0.3")
    install("broken", "import no_such_module", {"broken": ""})
    install("wrong", "def openrlhf_metric(): ...", {"wrong": ""})
    plugins.load(["length"])
    rows = {row["name"]: row for row in plugins.installed()}
    assert rows["length"] == {
        "name": "length",
        "distribution": "lengths",
        "version": "0.3",
        "hooks": ["openrlhf_validate_config"],
        "members": [],
        "loaded": True,
        "error": None,
    }
    assert (rows["metrics"]["loaded"], rows["metrics"]["error"]) == (False, None)
    assert (rows["everything"]["members"], rows["everything"]["hooks"]) == (["length", "metrics"], [])
    assert "No module named 'no_such_module'" in rows["broken"]["error"]
    assert "did you mean 'openrlhf_metrics'" in rows["wrong"]["error"]


@pytest.mark.parametrize(
    "names, line, expected",
    [
        ("length, everything", "from openrlhf.plugins import hook, loaded; print(loaded())", "['length', 'metrics']"),
        ("", "from openrlhf.plugins import hook, loaded; print(loaded())", "[]"),
        # The plugin's module imports openrlhf.plugins in its first line: nothing may be loaded half-way.
        ("length", "import lengths; from openrlhf.plugins import hook, loaded; print(loaded())", "['length']"),
    ],
)
def test_a_new_process_loads_what_the_environment_names(install, tmp_path, names, line, expected):
    install("lengths", LENGTHS, POINTS)
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)])
    env = os.environ | {"OPENRLHF_PLUGINS": names, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", line], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == expected, done.stderr


def test_a_new_process_with_an_unknown_name_fails(install, tmp_path):
    env = os.environ | {"OPENRLHF_PLUGINS": "no-such-plugin"}
    done = subprocess.run(
        [sys.executable, "-c", "from openrlhf.plugins import hook"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "PluginError: unknown plugin 'no-such-plugin'" in done.stderr
