"""The rows of examples/mixed_rewards are graded by what they are, and right answers are right."""

import importlib.util
from pathlib import Path

import pytest
import yaml
from judge_server import serving, verdict

from kimi_plugins import options
from kimi_plugins.grading import Grader, Settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "mixed_rewards"


@pytest.fixture(scope="module")
def rows():
    spec = importlib.util.spec_from_file_location("mixed_rewards_prepare", EXAMPLE / "prepare.py")
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    return prepare.rows(30, seed=0)


def kinds() -> dict[str, str]:
    rewards = yaml.safe_load((EXAMPLE / "train.yaml").read_text())["kimi"]["rewards"]
    return dict(entry.split("=") for entry in rewards["sources"])


def test_every_source_has_a_kind(rows):
    assert {row["datasource"] for row in rows} == set(kinds())
    assert [row["datasource"] for row in rows[:3]] == [row["datasource"] for row in rows[3:6]]


@pytest.mark.slow
def test_right_answers_are_right(rows, sandbox):
    table = kinds()
    by_source = {row["datasource"]: row for row in rows}
    programs = {row["label"]: row for row in rows if row["datasource"] == "programs"}
    with (
        serving(lambda *_: (200, verdict(True))) as server,
        Grader(Settings(judge=options.Judge(url=server.url))) as grader,
    ):
        label = by_source["sums"]["label"]
        assert grader.grade(table["sums"], rf"It is \boxed{{{label}}}.", label).score == 1.0
        words = {
            "2": "two",
            "3": "three",
            "4": "four",
            "5": "five",
            "6": "six",
            "7": "seven",
            "8": "eight",
            "9": "nine",
        }
        label = by_source["words"]["label"]
        assert grader.grade(table["words"], rf"\boxed{{\text{{{words[label]}}}}}", label).score == 1.0
        assert grader.grade(table["words"], r"\boxed{\text{eleven}}", label).score == 0.0  # another number: a veto
        bodies = {
            "double": "def double(n): return 2 * n",
            "add": "def add(a, b): return a + b",
            "square": "def square(n): return n * n",
            "total": "def total(items): return sum(items)",
        }
        for label in programs:
            for name, body in bodies.items():
                if f'"{name}"' in label:
                    assert grader.grade(table["programs"], f"```python\n{body}\n```", label).score == 1.0
