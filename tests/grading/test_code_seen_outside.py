"""Programs as they are found outside: public solution sets, answers of models, attempts to be paid for nothing.

code_cases.jsonl: a response, its problem, whether it is right, and what the reason of a wrong one says.
"""

import json
import sys
from pathlib import Path

import pytest

from kimi_plugins.grading.languages import LANGUAGES
from kimi_plugins.grading.programs import Problem, judge, judge_program

pytestmark = pytest.mark.slow

CASES = [json.loads(line) for line in Path(__file__).with_name("code_cases.jsonl").open(encoding="utf-8")]
NODES = [*range(100_000)]
# Too large for a line: program, problem.
LARGE = {
    "a megabyte read at once": (
        "import io, os\nread = io.BytesIO(os.read(0, os.fstat(0).st_size)).readline\nprint(len(read().split()))",
        {"cases": [{"input": "7 " * 500_000, "output": "500000"}]},
    ),
    "an integer of 100,000 digits": ("print(10**99999)", {"cases": [{"input": "", "output": "1" + "0" * 99_999}]}),
    "an integer of 20,001 digits read": (
        "print(int(input()) + 1)",
        {"cases": [{"input": "1" + "0" * 20_000, "output": "1" + "0" * 19_999 + "1"}]},
    ),
    "an integer of 40,000 bits": (
        "def f(n): return 1 << n",
        {"function": "f", "cases": [{"args": [40_000], "output": {"$int": hex(1 << 40_000)}}]},
    ),
    "a list of 100,000 numbers": (
        "def f(n): return range(n)",
        {"function": "f", "cases": [{"args": [100_000], "output": NODES}]},
    ),
    "a linked list of 100,000 nodes": (
        "class Solution:\n    def f(self, head): return head",
        {"function": "f", "cases": [{"args": [{"$list": NODES}], "output": {"$list": NODES}}]},
    ),
}


@pytest.mark.parametrize("case", CASES, ids=[case["what"] for case in CASES])
def test_verdicts(sandbox, case):
    language = case["label"].get("language", "python")
    if (package := LANGUAGES[language].missing()) is not None:
        pytest.skip(f"no toolchain: apt-get install {package}")
    if "import numpy" in case["response"] and sandbox.python.version != "{}.{}".format(*sys.version_info):
        pytest.skip("NumPy here is for another version of Python than programs run on")
    verdict = judge(case["response"], Problem.parse(case["label"]), sandbox)
    assert verdict.correct is case["right"], verdict
    assert case.get("reason", "passed") in verdict.reason


@pytest.mark.parametrize("name", LARGE)
def test_large_ones(sandbox, name):
    program, label = LARGE[name]
    assert judge_program(program, Problem.parse(label), sandbox).reason == "passed"
