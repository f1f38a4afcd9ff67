"""The documentation's site: what is generated from the code. `make docs` builds it, and fails on a broken link."""

import importlib.util
import re
from pathlib import Path

import pytest
from openrlhf import hookspecs

from kimi_plugins import options
from kimi_plugins.cli import COMMANDS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "scripts" / "docs_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_option_has_a_row_with_its_default(site):
    page = site.options_page()
    for section, kind in options.SECTIONS.items():
        for name in kind.__dataclass_fields__:
            assert f"| `kimi.{section}.{name}` |" in page
    assert "| `kimi.policy.tau` | `float` | `0.1` |" in page
    assert "| `kimi.rewards.kind` | `str` |  |" in page


def test_every_command_has_a_page_with_its_flags(site):
    pages = site.commands()
    assert {name.split()[0] for name in pages} == {module.rpartition(".")[2].replace("_", "-") for module in COMMANDS}
    assert "--answer-pattern" in pages["grade math"]


def test_every_hook_call_is_where_the_flow_says(site):
    calls = site.hook_calls()
    known = {name for name in vars(hookspecs) if name.startswith("openrlhf_")}
    assert set(calls) == known
    for hook, places in calls.items():
        for file, line in places:
            lines = (site.HOST / file).read_text().splitlines()
            assert any(hook in text for text in lines[line - 1 : line + 3]), (hook, file, line)
    flow = (ROOT / "docs" / "flow.md").read_text()
    assert known <= set(re.findall(r"`(openrlhf_\w+)`", flow))
    for hook, file in re.findall(r"`(openrlhf_\w+)` \| `([\w/.]+)`", flow) + re.findall(
        r"`(openrlhf_\w+)`[^`.]*?\(`([\w/.]+)`\)", flow
    ):
        assert file in {found for found, _ in calls[hook]}, (hook, file)
    assert re.search(r"`trainer/ray/ppo_actor\.py:\d+`", site.with_lines(flow, calls))


def test_the_flow_names_functions_that_exist(site):
    """Each `name` in a sentence that names a file is in that file."""
    sentences = re.split(
        r"(?<=[.;:])\s", (ROOT / "docs" / "flow.md").read_text().split("## Where does a reward go?")[1]
    )
    checked = 0
    for sentence in sentences:
        files = re.findall(r"`((?:kimi_plugins/)?[\w/]+\.py)`", sentence)
        names = [name for name in re.findall(r"`(\w+)`", sentence) if not name.startswith("openrlhf_")]
        for name in names:
            paths = [ROOT / file if file.startswith("kimi_plugins/") else site.HOST / file for file in files]
            if paths and all(path.is_file() for path in paths):
                assert any(re.search(rf"\b{name}\b", path.read_text()) for path in paths), (name, files)
                checked += 1
    assert checked >= 6


def test_a_plugin_s_page_lists_its_options_and_hooks(site):
    pages = {name: site.plugin_page(name, plugin, site.hook_calls()) for name, plugin in site.plugins().items()}
    assert "kimi" not in pages and "`openrlhf_policy_loss` | [`plugin.py:" in pages["kimi-policy"]
    assert "`kimi.rewards.math.timeout`" in pages["kimi-rewards"]


def test_links_to_files_of_the_repository_become_links_of_the_site(site):
    text = "[a](../configs/quickstart_cpu.yaml) [b](hooks.md) [c](https://example.org) [d](../README.md#plugins)"
    changed, targets = site.linked(text, ROOT / "docs" / "data.md", "data.md")
    assert changed == (
        "[a](source/configs/quickstart_cpu.yaml.md) [b](hooks.md) [c](https://example.org) [d](index.md#plugins)"
    )
    assert {target.name for target in targets} == {"quickstart_cpu.yaml", "hooks.md", "README.md"}
