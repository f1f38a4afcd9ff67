"""docs/compatibility.md names all that is used of vLLM, Ray, DeepSpeed and transformers, and all of it exists."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARIES = ("deepspeed", "ray", "transformers", "vllm")
PUBLIC, PRIVATE = re.split(r"^## Private names$", (ROOT / "docs" / "compatibility.md").read_text(), flags=re.MULTILINE)
NAMES = {
    part: re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE)
    for part, text in [("public", PUBLIC), ("private", PRIVATE)]
}
# Set on instances only.
NOT_ON_THE_CLASS = {"argparse.ArgumentParser._actions", "deepspeed.DeepSpeedEngine._global_grad_norm"}


def resolve(name: str) -> object:
    """What the dotted name stands for. Raises ImportError or AttributeError if there is no such thing."""
    module, *attributes = name.split(".")
    found = importlib.import_module(module)
    for attribute in attributes:
        if not hasattr(found, attribute):
            found = importlib.import_module(f"{found.__name__}.{attribute}")
        else:
            found = getattr(found, attribute)
    return found


def imported(tree: ast.AST) -> set[str]:
    """The dotted names of LIBRARIES that the code imports from modules."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0]
    pairs = [(node.module, alias.name) for node in nodes for alias in node.names]
    return {f"{module}.{name}" for module, name in pairs if module.partition(".")[0] in LIBRARIES}


def attributes_of_ray(tree: ast.AST) -> set[str]:
    """The names that the code takes from `ray` directly, such as ray.get."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    return {f"ray.{node.attr}" for node in nodes if node.value.id == "ray"} - {
        "ray.exceptions",
        "ray.util",
        "ray._private",
    }


def added_lines() -> list[str]:
    """The lines that the patches add to openrlhf/."""
    lines, in_source = [], False
    for patch in sorted((ROOT / "patches").glob("*.patch")):
        for line in patch.read_text().splitlines():
            if line.startswith("diff --git"):
                in_source = line.startswith("diff --git a/openrlhf/")
            elif in_source and line.startswith("+") and not line.startswith("+++"):
                lines.append(line[1:])
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES["public"], *NAMES["private"]])
def test_the_name_exists(name):
    if name in NOT_ON_THE_CLASS:
        name = name.rpartition(".")[0]
    resolve(name)


def test_the_tables_are_sorted_by_privacy():
    assert not [name for name in NAMES["public"] if "._" in name]
    assert not [name for name in NAMES["private"] if "._" not in name]


def test_the_plugins_use_nothing_else():
    used = set()
    for path in (ROOT / "kimi_plugins").rglob("*.py"):
        tree = ast.parse(path.read_text())
        used |= imported(tree) | attributes_of_ray(tree)
    assert used - set(NAMES["public"]) == set()


def test_the_patches_import_nothing_else():
    used = set()
    for line in added_lines():
        if re.match(rf"\s*from ({'|'.join(LIBRARIES)})[. ].* import \w", line):
            used |= imported(ast.parse(line.strip()))
    assert used and used - set(NAMES["public"]) == set()


def test_the_patches_take_nothing_else_from_ray():
    used = set(
        re.findall(r"(?<![\w.])ray\.(?:_private\.\w+\.\w+|exceptions\.\w+|[a-z_]+(?=\())", "\n".join(added_lines()))
    )
    named = {*NAMES["public"], *NAMES["private"]}
    assert (
        used
        and {name for name in used if not any(name == known or name.startswith(f"{known}.") for known in named)}
        == set()
    )
