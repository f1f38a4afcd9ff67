"""Code problems of public data sets' formats: what a converted problem accepts and rejects, and what is refused."""

import argparse
import base64
import json
import pickle
import re
import zlib

import pytest

from kimi_plugins import cli
from kimi_plugins.grading import code_problems
from kimi_plugins.grading.code_problems import Refused, of_asserts
from kimi_plugins.grading.programs import Problem, judge_program, read_label

SUM = "a, b = map(int, input().split())\nprint(a + b)"
SUM_METHOD = "class Solution:\n    def add(self, a, b): return a + b"
STDIN = {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}
PRIVATE = [{"input": "3 4", "output": "7", "testtype": "stdin"}]
FUNCTIONAL = {"input": "3\n4", "output": "7", "testtype": "functional"}
IO = {"input": "1 2", "output": "3"}
TESTS = {"input": ["1 2"], "output": ["3"]}


def packed(value) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


ROWS = {
    "apps text": ("apps", {"input_output": json.dumps(STDIN)}, SUM),
    "apps lines": ("apps", {"input_output": {"inputs": [["1 2"]], "outputs": [["3"]]}}, SUM),
    "apps function": (
        "apps",
        {"input_output": json.dumps({"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [[3], [7]]})},
        SUM_METHOD,
    ),
    "verl": ("verl", {"reward_model": {"ground_truth": json.dumps(STDIN)}}, SUM),
    "verl function": (
        "verl",
        {"reward_model": {"ground_truth": json.dumps({"fn_name": "add", "inputs": ["1\n2"], "outputs": ["3"]})}},
        "def add(a, b): return a + b",
    ),
    "prime-rl": (
        "prime-rl",
        {
            "verification_info": json.dumps(
                {"language": "python", "test_cases": [{"type": "stdin_stdout", "fn_name": None} | IO]}
            )
        },
        SUM,
    ),
    "prime-rl, Python's form": (
        "prime-rl",
        {
            "verification_info": str(
                {"test_cases": [{"type": "function_call", "fn_name": "add", "input": [1, 2], "output": [3]}]}
            )
        },
        "def add(a, b): return a + b",
    ),
    "deepcoder": ("deepcoder", {"tests": json.dumps([{"type": "stdin_stdout"} | IO])}, SUM),
    "deepcoder, APPS' object": ("deepcoder", {"tests": json.dumps(STDIN)}, SUM),
    "bare lists": ("inputs-outputs", STDIN, SUM),
    "livecodebench": (
        "livecodebench",
        {
            "public_test_cases": json.dumps(PRIVATE),
            "private_test_cases": packed(json.dumps(PRIVATE)),
            "starter_code": "",
        },
        SUM,
    ),
    "livecodebench function": (
        "livecodebench",
        {
            "public_test_cases": json.dumps([FUNCTIONAL]),
            "private_test_cases": "[]",
            "starter_code": "class Solution:\n    def add(self, a: int, b: int) -> int:",
            "metadata": json.dumps({"func_name": "add"}),
        },
        SUM_METHOD,
    ),
    "codecontests": (
        "codecontests",
        {"public_tests": TESTS, "private_tests": {"input": [], "output": []}, "time_limit": {"seconds": 2}},
        SUM,
    ),
    "codeforces": (
        "codeforces",
        {"official_tests": [{"input": "1 2", "output": "3"}], "time_limit": 4, "memory_limit": 256},
        SUM,
    ),
    "mbpp": (
        "mbpp",
        {"test_list": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"]},
        "def add(a, b): return a + b",
    ),
    "humaneval": (
        "humaneval",
        {
            "entry_point": "add",
            "canonical_solution": "",
            "test": "METADATA = {}\ndef check(candidate):\n    '''x'''\n    assert candidate(1, 2) == 3, 'no'\n"
            "    assert True\n",
        },
        "def add(a, b): return a + b",
    ),
    "leetcode": (
        "leetcode",
        {
            "entry_point": "Solution().add",
            "prompt": "from collections import *",
            "test": "def check(candidate):\n    assert candidate(a = 1, b = 2) == 3",
        },
        SUM_METHOD,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_right_and_a_wrong_program(sandbox, name):
    kind, row, program = ROWS[name]
    assert code_problems.detected(row) == kind
    problem = Problem.parse(code_problems.FORMATS[kind][0](row))
    assert judge_program(program, problem, sandbox).reason == "passed"
    assert judge_program(program.replace("a + b", "a + b + 1"), problem, sandbox).correct is False


def test_keys_that_were_integers():
    row = {"input_output": {"fn_name": "f", "inputs": [[{"1": {"a": 2}}]], "outputs": [[5]]}}
    [case] = code_problems.apps(row)["cases"]
    assert case == {"args": [{"$dict": [[1, {"a": 2}]]}], "outputs": [[5], 5]}


def test_limits_and_files():
    row = {"public_tests": TESTS, "time_limit": {"seconds": 3, "nanos": 500_000_000}, "memory_limit_bytes": 2**30}
    problem = code_problems.code_contests(row | {"input_file": "sum.in", "output_file": "sum.out"})
    assert problem["limits"] == {"cpu_seconds": 10.5, "wall_seconds": 21.0, "memory_mb": 1024}
    assert problem["files"] == ["sum.in", "sum.out"]


class TestAsserts:
    @pytest.mark.parametrize(
        "text, case, settings",
        [
            ("assert f([1, (2,)], k=-1) == {3}", {"args": [[1, {"$tuple": [2]}]], "kwargs": {"k": -1}}, {}),
            ("assert f(2) is None", {"args": [2], "outputs": [None]}, {}),
            ("assert 5 == f(2)", {"outputs": [5]}, {}),
            ("assert f('x')", {"outputs": [True]}, {}),
            ("assert not f('x')", {"outputs": [False, None, 0, "", [], {}]}, {}),
            ("assert f() == float('inf')", {"outputs": [{"$float": "inf"}]}, {}),
            ("assert f() == 2**31 - 1", {"outputs": [2**31 - 1]}, {}),
            ("assert f() == [0] * 3 + [1]", {"outputs": [[0, 0, 0, 1]]}, {}),
            ("assert set(f((1, 2))) == set((3, 4))", {"outputs": [[3, 4]]}, {"compare": "unordered"}),
            ("assert tuple(f()) == tuple([3, 4])", {"outputs": [[3, 4]]}, {}),
            ("assert sorted(f()) == [3, 4]", {"outputs": [[3, 4]]}, {"compare": "unordered"}),
            ("assert abs(f() - 2.5) < 1e-6", {"outputs": [2.5], "tolerance": {"absolute": 1e-6}}, {}),
            (
                "assert math.isclose(f(), 2.5, rel_tol=0.01)",
                {"outputs": [2.5], "tolerance": {"relative": 0.01, "absolute": 0.0}},
                {},
            ),
            (
                "assert is_same_list(f(h = list_node([1])), list_node([]))",
                {"kwargs": {"h": {"$list": [1]}}, "outputs": [{"$list": []}]},
                {},
            ),
            (
                "assert f([tree_node([1, None, 2])]) == [list_node([3])]",
                {"args": [[{"$tree": [1, None, 2]}]], "outputs": [[{"$list": [3]}]]},
                {},
            ),
        ],
    )
    def test_forms(self, text, case, settings):
        problem = of_asserts(text, None)
        assert problem["function"] == "f" and case.items() <= problem["cases"][0].items()
        assert {key: problem[key] for key in settings} == settings
        Problem.parse(problem)

    @pytest.mark.parametrize(
        "text, reason",
        [
            ("", "no assertions"),
            ("assert f(", "the tests are not Python"),
            ("for x in range(3): assert f(x) == x", "tests with for statements"),
            ("assert f(g(1)) == 2", "not a literal: g\\(1\\)"),
            ("assert f(1) == f(2)", "not a literal"),
            ("assert f(1) == 2\nassert g(1) == 2", "an assertion about g, not f"),
            ("assert f(1) > 2", "another form"),
            ("assert f(1) == 'a' * 10**9", "may be large"),
            ("assert f(1) == 9**9**9", "may be large"),
            ("assert f(1) == [1]\nassert set(f(2)) == {1}", "several forms"),
        ],
    )
    def test_refused(self, text, reason):
        with pytest.raises(Refused, match=reason):
            of_asserts(text, None)


@pytest.mark.parametrize(
    "kind, row, reason",
    [
        ("codeforces", {"official_tests": [], "interaction_format": "x"}, "interactive"),
        ("codeforces", {"official_tests": [], "generated_checker": "x"}, "special judge"),
        ("codeforces", {"official_tests": [{}], "official_tests_complete": False}, "not complete"),
        (
            "codecontests",
            {"public_tests": TESTS, "description": "Print any valid order."},
            "special judge: the statement",
        ),
        ("apps", STDIN | {"question": "This is an interactive problem."}, "interactive"),
        ("apps", {"input_output": "{"}, "not JSON"),
        ("apps", {"input_output": ""}, "not JSON"),
        ("apps", {"inputs": ["1"], "outputs": ["1", "2"]}, "1 inputs, but 2 outputs"),
        (
            "livecodebench",
            {"public_test_cases": "[]", "private_test_cases": packed(argparse.Namespace())},
            "cannot be unpacked .*argparse.Namespace",
        ),
        ("livecodebench", {"public_test_cases": "[]", "private_test_cases": "eA=="}, "cannot be unpacked"),
    ],
)
def test_refused(kind, row, reason):
    with pytest.raises(Refused, match=reason):
        code_problems.FORMATS[kind][0](row)


@pytest.fixture
def package(tmp_path):
    directory = tmp_path / "packages" / "half"
    (directory / "data" / "secret").mkdir(parents=True)
    (directory / "problem.yaml").write_text("name: Half\nvalidator_flags: float_tolerance 1e-4\n")
    (directory / ".timelimit").write_text("4\n")
    for number, (given, answer) in enumerate((("3", "1.5"), ("8", "4.0"))):
        (directory / "data" / "secret" / f"{number}.in").write_text(given)
        (directory / "data" / "secret" / f"{number}.ans").write_text(answer)
    return directory


def test_kattis_flags_of_a_group(package):
    secret = package / "data" / "secret"
    (secret / "near").mkdir()
    (secret / "near" / "a.in").write_text("1")
    (secret / "near" / "a.ans").write_text("0.5")
    flags = "output_validator_flags: float_absolute_tolerance 1e-3 float_relative_tolerance 1e-2\n"
    (secret / "near" / "testdata.yaml").write_text(flags)
    (secret / "testdata.yaml").write_text("on_reject: continue\n")
    tolerances = [case["tolerance"] for case in code_problems.kattis(package)["cases"]]
    assert tolerances == [1e-4, 1e-4, {"absolute": 1e-3, "relative": 1e-2}]
    (secret / "testdata.yaml").write_text("output_validator_flags: case_sensitive\n")
    with pytest.raises(Refused, match="compared in several ways"):
        code_problems.kattis(package)


@pytest.mark.parametrize(
    "text, tolerance",
    [
        ("if its absolute or relative error does not exceed $$$10^{-6}$$$", 1e-6),
        ("with an absolute or relative error of at most 10 - 9.", 1e-9),
        ("relative error 1e-4; for the second an absolute error below 0.00001", 1e-5),
        ("the absolute value of x is at most 10^-6", None),
        ("within 10^9 of an absolute error", None),
    ],
)
def test_a_tolerance_in_the_statement(text, tolerance):
    assert code_problems.apps(STDIN | {"question": text}).get("tolerance") == tolerance


def test_linked_lists_and_trees_by_the_starter_code():
    starter = (
        "class Solution:\n    def f(self, heads: List[Optional[ListNode]], n: int) -> Optional[TreeNode]:\n        "
    )
    tests = {"fn_name": "f", "inputs": [[[[1, 2], []], 3]], "outputs": [[[4, None, 5]]]}
    [case] = code_problems.apps({"input_output": tests, "starter_code": starter})["cases"]
    assert case == {
        "args": [[{"$list": [1, 2]}, {"$list": []}], 3],
        "outputs": [{"$tree": [[4, None, 5]]}, {"$tree": [4, None, 5]}],
    }
    test = {"testtype": "functional", "input": "[[1]]\n2", "output": "[]"}
    row = {"public_test_cases": json.dumps([test]), "metadata": '{"func_name": "f"}', "starter_code": starter}
    assert code_problems.livecodebench(row)["cases"] == [{"args": [[{"$list": [1]}], 2], "output": {"$tree": []}}]


def test_kattis(sandbox, package):
    problem = Problem.parse(code_problems.kattis(package))
    assert (problem.cases[0]["tolerance"], problem.limits.cpu_seconds, problem.ignore_case) == (1e-4, 12, True)
    assert judge_program("print(float(input()) / 2 + 1e-5)", problem, sandbox).reason == "passed"
    assert judge_program("print(float(input()) / 2 + 1e-2)", problem, sandbox).correct is False
    (package / "problem.yaml").write_text("validation: custom interactive\n")
    with pytest.raises(Refused, match="interactive"):
        code_problems.kattis(package)
    (package / "problem.yaml").write_text("validation: custom\n")
    with pytest.raises(Refused, match="output validator"):
        code_problems.kattis(package)


def test_quixbugs(sandbox, tmp_path):
    (tmp_path / "gcd.json").write_text("[[17, 0], 17]\n[[20, 8], 4]\n")
    problem = Problem.parse(code_problems.quixbugs(tmp_path / "gcd.json"))
    assert judge_program("from math import gcd", problem, sandbox).reason == "passed"
    assert judge_program("def gcd(a, b): return a", problem, sandbox).reason == "case 2: wrong result"


def command(*arguments) -> int:
    parser = argparse.ArgumentParser()
    cli.add_commands(parser)
    args = parser.parse_args(["code-problems", *map(str, arguments)])
    return args.func(args)


def test_the_command(tmp_path, capsys, write_rows):
    right = {"task_id": 1, "text": "Add.", "test_list": ["assert add(1, 2) == 3"]}
    rows = [right, right, right | {"task_id": 2, "test_list": ["assert add(1) > 3"]}, {"task_id": 3}, "{"]
    file, out, prompts = write_rows("mbpp.jsonl", rows), tmp_path / "cases.jsonl", tmp_path / "prompts.jsonl"
    assert command(file, "--out", out, "--prompts", prompts) == 0
    printed = capsys.readouterr().out
    assert "1 problems in the format mbpp" in printed and "4 refused" in printed and "row 4: the row is not" in printed
    [row] = [json.loads(line) for line in prompts.read_text().splitlines()]
    assert row["prompt"].startswith("Add.") and read_label(row["label"]).function == "add"


def test_the_command_on_a_directory(package, tmp_path, capsys):
    out = tmp_path / "cases.jsonl"
    assert command(package.parent, "--out", out) == 0
    assert read_label(f"{out}#half").cases[1]["tolerance"] == 1e-4
    assert command(package, "--format", "kattis", "--out", out) == 0
    assert "1 problems in the format kattis" in capsys.readouterr().out


def test_bad_input(tmp_path, capsys, write_rows):
    out = tmp_path / "cases.jsonl"
    unknown, broken = write_rows("x.jsonl", [{"a": 1}]), write_rows("y.jsonl", [{"test_list": ["assert f(1) > 1"]}])
    for arguments, said in (
        ((unknown,), "no format is recognised by the columns a"),
        ((unknown, "--format", "perl"), "--format perl: choose livecodebench"),
        ((broken, "--format", "kattis"), "is not a directory"),
        ((broken,), "no problem of .*can be used: .*another form"),
        ((tmp_path / "none.jsonl",), "none.jsonl"),
    ):
        assert command(*arguments, "--out", out) == 2
        assert re.search(said, capsys.readouterr().err)
        assert not out.exists()
