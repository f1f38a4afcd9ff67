"""Pages of the documentation's site that are made from the code; a hook module of mkdocs.yml.

The README is the home page. Every command's help, every option, and a page a plugin with its hooks, their files and
lines are generated. Files outside of docs/ that a page links to become pages of their own.
"""

import argparse
import ast
import contextlib
import functools
import io
import os
import posixpath
import re
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path
from types import UnionType
from typing import get_args

import openrlhf
from mkdocs.structure.files import File, Files
from openrlhf import hookspecs

from kimi_plugins import options
from kimi_plugins.cli import add_commands

ROOT = Path(__file__).parents[1]
HOST = Path(openrlhf.__file__).parent
SHOWN = 200_000  # bytes of a linked file that becomes a page; larger ones are copied as they are
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".jsonl": "json"}
DETAILS = {  # a plugin's page in docs/
    "kimi-rewards": "rewards.md",
    "kimi-rollout": "rollouts.md",
    "kimi-vision": "vision.md",
    "kimi-log": "metrics.md",
    "kimi-preflight": "reliability.md",
}
LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)\s#]+)|(?<=src=\")(?!https?:)([^\"]+)")


# Generated text


def option_rows(section: str) -> list[str]:
    """A table of the options of one section of options.SECTIONS."""
    rows = ["| option | type | default | what it does |", "|---|---|---|---|"]
    for entry in fields(options.SECTIONS[section]):
        choices = entry.metadata["choices"]
        kind = " or ".join(f"`{choice}`" for choice in choices) if choices else f"`{_type_name(entry.type)}`"
        default = (
            "" if entry.default is None else f"`{str(entry.default).lower() if entry.type is bool else entry.default}`"
        )
        text = entry.metadata["help"].replace("|", r"\|")
        rows.append(f"| `kimi.{section}.{entry.name}` | {kind} | {default} | {text} |")
    return rows


def _type_name(kind: object) -> str:
    if isinstance(kind, UnionType):
        return " or ".join(_type_name(part) for part in get_args(kind) if part is not type(None))
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def options_page() -> str:
    lines = [
        "# Options",
        "",
        "All options of the plugins, from `kimi_plugins/options.py`. In YAML they are keys, nested or dotted; "
        "on the command line they are flags: `--kimi.policy.tau 0.1`.",
    ]
    for section, kind in options.SECTIONS.items():
        lines += ["", f"## kimi.{section}", "", (kind.__doc__ or "").strip(), "", *option_rows(section)]
    return "\n".join(lines) + "\n"


def commands() -> dict[str, str]:
    """{command: its help} of every `openrlhf kimi …`, those below others included."""
    parser = argparse.ArgumentParser(prog="openrlhf kimi")
    add_commands(parser)
    found: dict[str, str] = {}
    _add_helps(parser, "", found)
    return found


def _add_helps(parser: argparse.ArgumentParser, name: str, found: dict[str, str]) -> None:
    # argparse has no public list of a parser's commands: its own help of each is asked for by name.
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, below in action.choices.items():
                found[f"{name} {command}".strip()] = _help(below)
                _add_helps(below, f"{name} {command}".strip(), found)


def _help(parser: argparse.ArgumentParser) -> str:
    text = io.StringIO()
    columns, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "100"
    try:
        with contextlib.redirect_stdout(text):
            parser.print_help()
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return text.getvalue()


def command_path(name: str) -> str:
    return f"reference/commands/{name.replace(' ', '-')}.md"


def command_page(name: str, text: str) -> str:
    return f"# openrlhf kimi {name}\n\n```text\n{text.rstrip()}\n```\n"


@functools.cache
def hook_calls() -> dict[str, list[tuple[str, int]]]:
    """{hook: [(file of OpenRLHF, line)]}: where the patched OpenRLHF calls it."""
    found: dict[str, list[tuple[str, int]]] = {}
    known = {name for name in vars(hookspecs) if name.startswith("openrlhf_")}
    for path in sorted(HOST.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in known:
                name = node.func.attr
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = node.args[0].value if node.args[0].value in known else None
            if name is not None:
                found.setdefault(name, []).append((path.relative_to(HOST).as_posix(), node.lineno))
    return found


def plugins() -> dict[str, type]:
    """{name: class} of this project's plugins, without the bundle."""
    points = [point for point in entry_points(group="openrlhf") if point.value.startswith("kimi_plugins.")]
    loaded = {point.name: point.load() for point in points}
    return {name: plugin for name, plugin in loaded.items() if not hasattr(plugin, "openrlhf_plugins")}


def plugin_page(name: str, plugin: type, calls: dict[str, list[tuple[str, int]]]) -> str:
    lines = [
        f"# {name}",
        "",
        (plugin.__doc__ or "").strip(),
        "",
        f"`openrlhf train --plugins {name} …`, or as part of `kimi`.",
    ]
    if name in DETAILS:
        lines += ["", f"In detail: [{DETAILS[name]}](../{DETAILS[name]})."]
    section = name.removeprefix("kimi-")
    section = "data" if section == "preflight" else section
    for below in options.SECTIONS:
        if below == section or below.startswith(f"{section}."):
            lines += ["", f"## Options: kimi.{below}", "", *option_rows(below)]
    lines += ["", "## Hooks", "", "| hook | implemented in | called by OpenRLHF in |", "|---|---|---|"]
    attributes = (attribute for kind in reversed(plugin.__mro__) for attribute in vars(kind))
    for hook in (attribute for attribute in attributes if attribute.startswith("openrlhf_")):
        line = getattr(plugin, hook).__code__.co_firstlineno
        where = ", ".join(f"`{file}:{number}`" for file, number in calls.get(hook, []))
        lines.append(f"| `{hook}` | [`plugin.py:{line}`](../../kimi_plugins/plugin.py) | {where} |")
    return "\n".join(lines) + "\n"


def with_lines(flow: str, calls: dict[str, list[tuple[str, int]]]) -> str:
    """The rows of docs/flow.md's table with the line of each hook call behind its file."""
    lines = []
    for line in flow.splitlines():
        hook = re.search(r"`(openrlhf_\w+)` \| `([\w/.]+)`", line)
        if hook:
            numbers = [number for file, number in calls[hook[1]] if file == hook[2]]
            line = line.replace(f"`{hook[2]}`", f"`{hook[2]}:{numbers[0]}`", 1)
        lines.append(line)
    return "\n".join(lines) + "\n"


# The site


def linked(markdown: str, source: Path, page: str) -> tuple[str, set[Path]]:
    """A page with its links to files of the repository changed to the site's, and which files those are.

    source: the file that the links are relative to. page: its name in the site.
    """
    found = set()

    def target(match: re.Match) -> str:
        path = Path(os.path.normpath(source.parent / match[0]))
        if not path.is_file() or not path.is_relative_to(ROOT):
            return match[0]
        found.add(path)
        return posixpath.relpath(site_name(path), posixpath.dirname(page) or ".")

    return LINK.sub(target, markdown), found


def site_name(path: Path) -> str:
    """The name of a file of the repository in the site."""
    relative = path.relative_to(ROOT).as_posix()
    if relative == "README.md":
        return "index.md"
    if relative.startswith("docs/"):
        return relative.removeprefix("docs/")
    if path.suffix == ".md" or is_binary(path) or path.stat().st_size > SHOWN:
        return f"source/{relative}"
    return f"source/{relative}.md"


def is_binary(path: Path) -> bool:
    return path.suffix in (".svg", ".png")


def source_page(path: Path) -> str:
    name, language = path.relative_to(ROOT).as_posix(), LANGUAGES.get(path.suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n# {name}\n\n`````{language}\n{path.read_text().rstrip()}\n`````\n"


def on_config(config):
    """Add a page a command to the navigation."""
    [reference] = [entry["Reference"] for entry in config.nav if "Reference" in entry]
    names = {f"openrlhf kimi {name}": command_path(name) for name in sorted(commands())}
    reference.append({"Commands": [{title: page} for title, page in names.items()]})
    return config


def on_files(files: Files, config) -> Files:
    calls = hook_calls()
    pages = {"reference/options.md": (options_page(), ROOT / "docs/reference/options.md")}
    for name, text in commands().items():
        page = command_path(name)
        pages[page] = command_page(name, text), ROOT / "docs" / page
    for name, plugin in plugins().items():
        pages[f"plugins/{name}.md"] = plugin_page(name, plugin, calls), ROOT / f"docs/plugins/{name}.md"
    for file in [file for file in files if file.src_uri.endswith(".md")]:
        path = Path(str(file.abs_src_path))
        text = path.read_text()
        pages[file.src_uri] = (with_lines(text, calls) if file.src_uri == "flow.md" else text), path
        files.remove(file)
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"):
        pages[site_name(path)] = path.read_text(), path

    waiting = list(pages.items())
    while waiting:
        page, (text, source) = waiting.pop()
        text, targets = linked(text, source, page)
        files.append(File.generated(config, page, content=text))
        for target in targets:
            name = site_name(target)
            if name in pages or files.get_file_from_path(name):
                continue
            if name.endswith(".md"):
                pages[name] = (target.read_text() if target.suffix == ".md" else source_page(target)), target
                waiting.append((name, pages[name]))
            else:
                files.append(File.generated(config, name, abs_src_path=str(target)))
    return files
