"""The code reward: what counts as the program, what passes, and that no program can forge a verdict."""

import json
import math

import pytest

from kimi_plugins.grading.programs import (
    Problem,
    extract_program,
    judge,
    judge_all,
    judge_program,
    read_label,
    run_calls,
    same_text,
    same_value,
)
from kimi_plugins.sandbox import function_server
from kimi_plugins.sandbox.pool import SandboxError

pytestmark = pytest.mark.slow

ADD = Problem.parse(
    {"cases": [{"input": f"{a} {b}\n", "output": f"{a + b}\n"} for a, b in ((1, 2), (10, -3), (0, 0))]}
)
DOUBLE = Problem.parse({"function": "double", "cases": [{"args": [n], "output": 2 * n} for n in (1, 21, -4)]})
FENCE = "```"


def fenced(program: str, tag: str = "python") -> str:
    return f"{FENCE}{tag}\n{program}\n{FENCE}"


class TestExtraction:
    @pytest.mark.parametrize(
        "response, program",
        [
            (fenced("a = 1"), "a = 1\n"),
            (f"Text\n{fenced('a = 1')}\ntext\n{fenced('a = 2')}\nmore", "a = 2\n"),
            (f"<think>{fenced('a = 1')}</think>\n{fenced('a = 2')}", "a = 2\n"),
            (f"{fenced('a = 1')}</think>{fenced('a = 2', '')}", "a = 2\n"),
            (f"{fenced('a = 1')}\nIt prints\n{fenced('1', '')}", "a = 1\n"),
            (f"{fenced('a = 1', '')}\n{fenced('a = 2', 'text')}", "a = 1\n"),
            (fenced("a = 1", "Python") + "<|im_end|>", "a = 1\n"),
            (fenced("a = 1") + "</s>", "a = 1\n"),
            ("~~~~py\ns = '''\n~~~\n```\n'''\n~~~~", "s = '''\n~~~\n```\n'''\n"),
            (fenced("a = 1", 'python title="x.py"'), "a = 1\n"),
            (fenced("if x:\n    y = '```'"), "if x:\n    y = '```'\n"),
        ],
    )
    def test_the_program(self, response, program):
        assert extract_program(response) == (program, "")

    @pytest.mark.parametrize(
        "response, reason",
        [
            ("a = 1", "no fenced block of python"),
            ("", "no fenced block of python"),
            (f"{FENCE}python\na = 1", "the fenced block is not closed"),
            (fenced("int a;", "cpp"), "no fenced block of python"),
            (f"<think>{fenced('a = 1')}", "the thinking does not end"),
            (f"<think>{fenced('a = 1')}</think>The answer is above.", "no fenced block of python"),
        ],
    )
    def test_none(self, response, reason):
        assert extract_program(response) == (None, f"no program: {reason}")

    def test_thinking_that_the_prompt_opened(self):
        assert extract_program(fenced("a = 1"), thinking=True)[0] is None
        assert extract_program("x</think>" + fenced("a = 1"), thinking=True)[0] == "a = 1\n"

    def test_another_language(self):
        assert extract_program(fenced("a = 1"), "cpp")[0] is None
        assert extract_program(fenced("int a;", "c++") + "\n" + fenced("a = 1"), "cpp")[0] == "int a;\n"


class TestComparison:
    @pytest.mark.parametrize(
        "found, expected, how, same",
        [
            (b"1  2\n3", b"1 2 3\n", "tokens", True),
            (b"1 2", b"1 2 3", "tokens", False),
            (b"1  2", b"1 2", "lines", False),
            (b"1 2  \n3\n\n", b"1 2\n3", "lines", True),
            (b"1\n", b"1", "exact", False),
            (b"1\n", b"1\n", "exact", True),
            (b"1.0", b"1", "tokens", False),
            (b"\xff\xfe", b"1", "tokens", False),
            (b"", b"", "tokens", True),
        ],
    )
    def test_text(self, found, expected, how, same):
        assert same_text(found, expected, how, 0.0) is same

    def test_text_with_a_tolerance(self):
        assert same_text(b"x 0.3333", b"x 0.33333", "tokens", 1e-3)
        assert not same_text(b"x 0.3333", b"x 0.33333", "tokens", 1e-6)
        assert not same_text(b"nan", b"1", "tokens", 1e9)
        assert not same_text(b"y", b"x", "tokens", 1e9)

    @pytest.mark.parametrize(
        "value",
        [None, True, 0, -1, 2**200, 0.1, -0.0, "text", [1, [2]], (1, (2,)), {1, 2}, {"a": (1,)}, {1: 2, (1, 2): 3}]
        + [{"$set": 1}, 1 + 2j, b"\x00\xff", math.inf, [], (), {}, set(), {frozenset({1}): 2}, "\ud800"],
    )
    def test_values_survive_the_way_through_json(self, value):
        found = function_server.decode(json.loads(json.dumps(function_server.encode(value))))
        assert found == value and type(found) is type(value) and same_value(found, value)

    def test_subclasses_become_plain(self):
        class Equal(int):
            __eq__ = lambda self, other: True  # noqa: E731
            __hash__ = int.__hash__

        assert function_server.encode([Equal(3)]) == [3] and type(function_server.encode(Equal(3))) is int
        with pytest.raises(TypeError, match="a object cannot be compared"):
            function_server.encode(object())

    @pytest.mark.parametrize(
        "found, expected, tolerance, same",
        [
            (1, 1.0, 0, True),
            (1, True, 0, True),
            ([1, 2], (1, 2), 0, False),
            ([1, 2.0001], [1, 2], 1e-3, True),
            ([1, 2.01], [1, 2], 1e-3, False),
            (math.nan, math.nan, 0, True),
            ({"a": 1.0001}, {"a": 1}, 1e-3, True),
            ({"a": 1}, {"b": 1}, 0, False),
            ("1", 1, 0, False),
            (None, 0, 0, False),
            (10**400, 1.0, 0, False),
        ],
    )
    def test_values(self, found, expected, tolerance, same):
        assert same_value(found, expected, tolerance) is same


class TestVerdicts:
    def test_text(self, sandbox):
        verdict = judge(fenced("print(sum(map(int, input().split())))"), ADD, sandbox)
        assert (verdict.reward, verdict.reason, verdict.passed, verdict.cases) == (1.0, "passed", 3, 3)

    @pytest.mark.parametrize(
        "program, reason",
        [
            ("a, b = map(int, input().split()); print(a + abs(b))", "case 2: wrong output"),
            ("print(3)\nimport sys; sys.exit(1)", "case 1: exit code 1"),
            ("print(3)\nraise ValueError('no')", "case 1: exit code 1 (ValueError: no)"),
            ("print(3", "case 1: exit code 1 (SyntaxError: '(' was never closed)"),
            ("while True: pass", "case 1: cpu limit"),
            ("import os; os.abort()", "case 1: exit code 134"),
        ],
    )
    def test_wrong_text(self, sandbox, program, reason):
        problem = Problem.parse(vars(ADD) | {"limits": {"cpu_seconds": 1}})
        verdict = judge_program(program, problem, sandbox)
        assert (verdict.reward, verdict.reason, verdict.failed) == (0.0, reason, False)

    def test_a_response_without_a_program(self, sandbox):
        verdict = judge("3", ADD, sandbox)
        assert (verdict.reward, verdict.reason) == (0.0, "no program: no fenced block of python")

    @pytest.mark.parametrize("language", ["c", "cpp"])
    def test_compiled(self, sandbox, language):
        program = '#include <stdio.h>\nint main() { int a, b; scanf("%d %d", &a, &b); printf("%d", a + b); }'
        problem = Problem.parse(vars(ADD) | {"limits": {}, "language": language})
        assert judge_program(program, problem, sandbox).reason == "passed"
        verdict = judge_program("int main() { return x; }", problem, sandbox)
        assert verdict.reward == 0 and verdict.reason.startswith("case 1: exit code 1") and not verdict.failed
        assert judge_program('#include "/etc/passwd"', problem, sandbox).reward == 0

    def test_a_function(self, sandbox):
        assert judge_program("def double(n): return 2 * n", DOUBLE, sandbox).reward == 1
        verdict = judge_program("def double(n): return n + 1", DOUBLE, sandbox)
        assert (verdict.reward, verdict.reason, verdict.passed) == (0.0, "case 2: wrong result", 1)

    def test_an_exception_is_the_outcome_of_one_call(self, sandbox):
        verdict = judge_program("def double(n): return 2 * n if n < 20 else {}[n]", DOUBLE, sandbox)
        assert (verdict.reason, verdict.passed) == ("case 2: exception (KeyError: 21)", 1)
        calls = [[[n], {}] for n in (1, 21, 2)]
        program = b"def double(n): return 2 * n if n < 20 else {}[n]"
        lines = run_calls(program, "double", calls, DOUBLE.limits, sandbox).stdout.splitlines()
        assert lines == [b"2", b'{"$error": "KeyError: 21"}', b"4"]

    def test_a_method(self, sandbox):
        problem = Problem.parse(vars(DOUBLE) | {"limits": {}, "function": "Solution.double"})
        program = "class Solution:\n    def double(self, n): print('debug'); return 2 * n"
        assert judge_program(program, problem, sandbox).reward == 1

    @pytest.mark.parametrize(
        "program",
        [
            "print('PASS'); print('passed'); print(2)",
            "import os\ndef double(n): os._exit(0)",
            "import os; os.write(1, b'2\\n42\\n-8\\n')\ndef double(n): os._exit(0)",
            "class Equal:\n    def __eq__(self, other): return True\ndef double(n): return Equal()",
            "class Equal(int):\n    def __eq__(self, other): return True\ndef double(n): return Equal(3)",
            "import builtins\nbuiltins.isinstance = builtins.all = lambda *a: True\ndef double(n): return n",
            "import json\njson.dumps = lambda x: 'true'\ndef double(n): return n",
            "import sys\ndef double(n):\n    sys._getframe(1).f_locals.update(passed=True)\n    return None",
            "import gc\ndef double(n):\n    [o.append(1) for o in gc.get_objects() if type(o) is list]\n    return 0",
            "def double(n):\n    import sys; sys.setrecursionlimit(10**9)\n    x = []\n"
            "    for _ in range(10**5): x = [x]\n    return x",
            "def double(n): return float('nan')",
            "def double(n): return 10 ** 5000",
            "",
            "double = 3",
        ],
    )
    def test_no_forgery(self, sandbox, program):
        verdict = judge_program(program, DOUBLE, sandbox)
        assert (verdict.reward, verdict.failed) == (0.0, False)

    @pytest.mark.parametrize(
        "line",
        ["'[' * 100_000", "'{\"$dict\": [[[], 1]]}'", '\'{"$int": "x"}\'', "'{\"$set\": 3}'", "'\xff'", "'9' * 9999"],
    )
    def test_lines_that_are_no_values(self, sandbox, line):
        program = f"""
import os
for fd in range(3, 9):
    try: os.write(fd, ({line} + "\\n").encode("latin-1") * 3)
    except OSError: pass
os._exit(0)
"""
        verdict = judge_program(program, DOUBLE, sandbox)
        assert (verdict.reward, verdict.reason, verdict.failed) == (0.0, "case 1: wrong result", False)

    def test_the_program_sees_no_outputs(self, sandbox):
        cases = [{"args": [], "output": "987654321"}, {"args": [], "output": "True True False"}]
        program = """
import gc, os, sys
def f():
    text = repr(gc.get_objects()) + repr(sys.argv)
    for root, _, names in os.walk("/tmp"):
        text += "".join(open(os.path.join(root, name), errors="replace").read() for name in names)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        text += open(f"/proc/{pid}/cmdline").read() + open(f"/proc/{pid}/environ").read()
    return f'{"def main(program" in text} {"bwrap" in text} {"".join(["98765", "4321"]) in text}'
"""
        problem = Problem.parse({"function": "f", "cases": cases})
        assert judge_program(program, problem, sandbox).reason == "case 1: wrong result"
        problem = Problem.parse({"function": "f", "cases": cases[1:]})
        assert judge_program(program, problem, sandbox).reason == "passed"

    def test_a_failure_of_the_sandbox_is_not_a_plain_0(self):
        class Broken:
            def run(self, *_, **__):
                raise SandboxError("no more memory on this machine")

        for problem in (ADD, DOUBLE):
            verdict = judge_program("print(1)", problem, Broken())
            assert verdict.failed and verdict.reason == "the sandbox failed: no more memory on this machine"

    def test_many_keep_their_order(self, sandbox):
        responses = [fenced(f"def double(n): return n * {n % 2 + 1}") for n in range(6)]
        verdicts = list(judge_all(responses, [DOUBLE] * 6, sandbox))
        assert [verdict.reward for verdict in verdicts] == [0.0, 1.0] * 3


class TestProblems:
    @pytest.mark.parametrize(
        "data, named",
        [
            ([], "a problem is a JSON object with cases"),
            ({}, "cases: it must be a list"),
            ({"cases": []}, "cases: it must be a list of at least one"),
            ({"cases": [{"input": "1"}]}, "case 1: it must be an object with output"),
            ({"cases": [{"input": 1, "output": "1"}]}, "case 1: input and output must be text"),
            ({"cases": [{"args": 1, "output": 1}], "function": "f"}, "case 1: args must be a list"),
            ({"cases": [{"args": [{"$x": 1}], "output": 1}], "function": "f"}, "case 1: unknown key"),
            ({"cases": [{"args": [], "output": 1}], "function": "f()"}, "function is 'f\\(\\)'"),
            (
                {"cases": [{"args": [], "output": 1}], "function": "f", "language": "cpp"},
                "language is 'cpp'; functions",
            ),
            (
                {"cases": [{"input": "", "output": ""}], "language": "perl"},
                "language is 'perl'; choose python, c, cpp",
            ),
            ({"cases": [{"input": "", "output": ""}], "compare": "fuzzy"}, "compare is 'fuzzy'; choose tokens"),
            ({"cases": [{"input": "", "output": ""}], "tolerance": -1}, "tolerance is -1"),
            ({"cases": [{"input": "", "output": ""}], "limits": {"time": 1}}, "limits: .*the names are wall_seconds"),
            ({"cases": [{"input": "", "output": ""}], "limits": {"memory_mb": 0}}, "limit memory_mb is 0"),
        ],
    )
    def test_what_is_none_is_named(self, data, named):
        with pytest.raises(ValueError, match=named):
            Problem.parse(data)

    def test_a_label_is_the_problem_or_its_place_in_a_file(self, tmp_path):
        data = {"cases": [{"input": "1", "output": "é"}]}
        assert read_label(json.dumps(data)).cases == data["cases"]
        file = tmp_path / "cases.jsonl"
        rows = [{"id": "a", "cases": [{"input": "", "output": "ü"}]}, {"id": 7, **data}]
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        assert read_label(f"{file}#7").cases == data["cases"]
        with pytest.raises(ValueError, match="has no problem with the id '8'"):
            read_label(f"{file}#8")
        with pytest.raises(ValueError, match="or FILE#ID"):
            read_label("42")
        with pytest.raises(ValueError, match="the label is no JSON"):
            read_label("{")
        twice = tmp_path / "twice.jsonl"
        twice.write_text('{"id": 1}\n{"id": "1"}\n')
        with pytest.raises(ValueError, match="line 2: the id '1' is there twice"):
            read_label(f"{twice}#1")
