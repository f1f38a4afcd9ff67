"""The code reward: what counts as the program, what passes, and that no program can forge a verdict."""

import contextlib
import json
import math
import signal
from array import array
from collections import deque
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from kimi_plugins.grading.comparison import same_result, same_text, same_value
from kimi_plugins.grading.languages import COMPILE_LIMITS, LANGUAGES
from kimi_plugins.grading.programs import (
    Problem,
    extract_program,
    judge,
    judge_all,
    judge_program,
    read_label,
    run_cases,
)
from kimi_plugins.grading.verdict import Kind
from kimi_plugins.sandbox import interpreter
from kimi_plugins.sandbox.pool import SandboxError

ADD = Problem.parse(
    {"cases": [{"input": f"{a} {b}\n", "output": f"{a + b}\n"} for a, b in ((1, 2), (10, -3), (0, 0))]}
)
DOUBLE = Problem.parse({"function": "double", "cases": [{"args": [n], "output": 2 * n} for n in (1, 21, -4)]})
FENCE = "```"
OTHER_LANGUAGES = {
    "java": "import java.util.*;\nclass Sum {\n    public static void main(String[] a) {\n"
    "        Scanner s = new Scanner(System.in); System.out.println(s.nextInt() + s.nextInt());\n    }\n}\n"
    "class Other {}",
    "javascript": "const [a, b] = require('fs').readFileSync(0, 'utf8').split(' ').map(Number); console.log(a + b)",
    "go": 'package main\nimport "fmt"\nfunc main() { var a, b int; fmt.Scan(&a, &b); fmt.Println(a + b) }',
    "rust": "use std::io::*;\nfn main() { let mut s = String::new(); stdin().read_to_string(&mut s).unwrap();\n"
    'println!("{}", s.split_whitespace().map(|x| x.parse::<i64>().unwrap()).sum::<i64>()) }',
}


QUOTED = 'def f():\n    """\n        ```\n        f()\n        ```\n    """'


def fenced(program: str, tag: str = "python") -> str:
    return f"{FENCE}{tag}\n{program}\n{FENCE}"


@contextlib.contextmanager
def time_limit(seconds: int):
    signal.alarm(seconds)  # whose default action ends the tests
    yield
    signal.alarm(0)


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
            ("1. The program:\n   ```python\n   if x:\n       y\n   ```\n", "if x:\n    y\n"),
            ("- ```python\n  x\n\n    y\n  ```", "x\n\n  y\n"),
            ("      ```python\n      x = 1\n      ```", "x = 1\n"),
            ("> ```python\n> x = 1\n> ```", "x = 1\n"),
            ("```python\nx = 1\n``` done", "x = 1\n"),
            ("```python\r\nx = 1\r\n```\r\n", "x = 1\n"),
            ('```python\ns = "a\u2028b\x0c"\n```', 's = "a\u2028b\x0c"\n'),
            (fenced(QUOTED), QUOTED + "\n"),
            (f"◁think▷{fenced('a = 1')}◁/think▷\n{fenced('a = 2')}", "a = 2\n"),
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
            (f"<think>{fenced('a = 1')}", "the thinking does not end, or nothing follows it"),
            (f"◁think▷ try {fenced('a = 1')}", "the thinking does not end, or nothing follows it"),
            (f"<thinking> try {fenced('a = 1')}", "the thinking does not end, or nothing follows it"),
            (f"[THINK] try {fenced('a = 1')}", "the thinking does not end, or nothing follows it"),
            (f"◁think▷{fenced('a = 1')}◁/think▷ The answer is above.", "no fenced block of python"),
            (f"<think>{fenced('a = 1')}</think>The answer is above.", "no fenced block of python"),
        ],
    )
    def test_none(self, response, reason):
        assert extract_program(response) == (None, f"no program: {reason}")

    @pytest.mark.parametrize(
        "tag", ["py", "py3", "python3.11", "Python3", "{.python}", "{python}", "{.python .numberLines}", "pypy3"]
    )
    def test_tags_of_python(self, tag):
        assert extract_program(fenced("a = 1", tag))[0] == "a = 1\n"

    @pytest.mark.parametrize("tag, language", [("c++", "cpp"), ("cpp17", "cpp"), ("C", "c"), ("js", "javascript")])
    def test_tags_of_other_languages(self, tag, language):
        assert extract_program(fenced("a = 1", tag), language)[0] == "a = 1\n"
        assert extract_program(fenced("a = 1", tag))[0] is None

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
            (b"1.0", b"1", "tokens", True),
            (b"0.50", b"0.5", "tokens", True),
            (b"0.3333333333333333", b"0.333333", "tokens", True),
            (b"0.33333", b"0.333333", "tokens", False),
            (b"123456.79", b"123456.78", "tokens", False),
            (b"3.14159", b"3.14", "tokens", False),
            (b"1e-05", b"0.00001", "tokens", True),
            (b"1000000000000001", b"1000000000000000", "tokens", False),
            (b"007", b"7", "tokens", False),
            (b"120000", b"12e4", "tokens", False),
            (b"1_0", b"10", "tokens", False),
            (b"Infinity +inf -INF", b"inf inf -Infinity", "tokens", True),
            (b"-inf", b"inf", "tokens", False),
            (b"NaN", b"nan", "tokens", True),
            (b"1.5", b"nan", "tokens", False),
            (b"nan", b"1.5", "tokens", False),
            (b"Yes 1", b"YES 1", "tokens", True),
            (b"Ab", b"AB", "tokens", False),
            (b"9" * 100_000, b"9" * 99_999 + b"8", "tokens", False),
            (b"\xff\xfe", b"1", "tokens", False),
            (b"", b"", "tokens", True),
        ],
    )
    def test_text(self, found, expected, how, same):
        assert same_text(found, expected, how) is same

    def test_text_with_a_tolerance(self):
        assert same_text(b"x 0.3333", b"x 0.33333", "tokens", 1e-3)
        assert not same_text(b"x 0.3333", b"x 0.33333", "tokens", 1e-6)
        assert not same_text(b"nan", b"1", "tokens", 1e9)
        assert not same_text(b"y", b"x", "tokens", 1e9)
        for found, expected in ((b"1000001 0.5", b"1000000 0.5"), (b"007 0.5", b"7 0.5"), (b"1e300", b"inf")):
            assert not same_text(found, expected, "tokens", 1e-3)
        assert same_text(b"1e5", b"100000.0", "tokens", 0.0) and not same_text(b"0.51", b"0.5", "tokens", 0.0)

    def test_text_in_any_case(self):
        assert same_text(b"Case #1: Ab", b"case #1: aB", ignore_case=True) and not same_text(b"Ab", b"aB")

    @pytest.mark.parametrize(
        "value",
        [None, True, 0, -1, 2**200, 0.1, -0.0, "text", [1, [2]], (1, (2,)), {1, 2}, {"a": (1,)}, {1: 2, (1, 2): 3}]
        + [{"$set": 1}, 1 + 2j, b"\x00\xff", math.inf, [], (), {}, set(), {frozenset({1}): 2}, "\ud800"],
    )
    def test_values_survive_the_way_through_json(self, value):
        found = interpreter.decode(json.loads(json.dumps(interpreter.encode(value))))
        assert found == value and type(found) is type(value)
        assert same_value(interpreter.encode(value), interpreter.encode(value))

    def test_subclasses_become_plain(self):
        class Equal(int):
            __eq__ = lambda self, other: True  # noqa: E731
            __hash__ = int.__hash__

        assert interpreter.encode([Equal(3)]) == [3] and type(interpreter.encode(Equal(3))) is int
        with pytest.raises(TypeError, match="a object cannot be compared"):
            interpreter.encode(object())

    def test_iterables_become_lists_and_numbers_plain(self):
        values = [range(2), (n for n in range(2)), map(int, "01"), deque([0, 1]), dict.fromkeys([0, 1]).keys()]
        values += [array("i", [0, 1]), np.array([0, 1])]
        assert [interpreter.encode(value) for value in values] == [[0, 1]] * len(values)
        numbers = [Decimal("1.5"), Fraction(3, 2), Decimal(2), np.float64(1.5), np.int64(2)]
        assert [interpreter.encode(number) for number in numbers] == [1.5, 1.5, 2, 1.5, 2]

    @pytest.mark.parametrize(
        "found, expected, tolerance, same",
        [
            (1, 1.0, None, True),
            (1, True, None, True),
            ((1, 2), [1, 2], None, True),
            ([1, 2], (1, 2), None, False),
            ({1, 2}, [1, 2], None, False),
            ({1, 2}, {2, 1}, None, True),
            ([(1, 2)], [[1, 2]], None, True),
            ([1, 2.0001], [1, 2.0], 1e-3, True),
            ([1, 2.01], [1, 2.0], 1e-3, False),
            ([1, 2.0001], [1, 2], 1e-3, False),
            (10**15 + 1, 10**15, 1e-3, False),
            (0.1 + 0.2, 0.3, None, True),
            (0.1 + 0.2, 0.3, 0.0, False),
            (0.333, 0.3333333333333333, None, False),
            (math.nan, math.nan, None, True),
            (math.inf, -math.inf, 1.0, False),
            ({"a": 1.0001}, {"a": 1.0}, 1e-3, True),
            ({1: 2}, {"1": 2}, None, True),
            ({1: 2}, {1.0: 2}, None, True),
            ({"1": 2}, {1: 2}, None, False),
            ({"a": 1}, {"b": 1}, None, False),
            ("1", 1, None, False),
            (None, 0, None, False),
            (10**400, 1.0, None, False),
        ],
    )
    def test_values(self, found, expected, tolerance, same):
        encoded = interpreter.encode(found), interpreter.encode(expected)
        assert same_value(*encoded, tolerance=tolerance) is same

    @pytest.mark.parametrize(
        "found, expected, how, same",
        [
            ([2, 1], [1, 2], "ordered", False),
            ([2, 1], [1, 2], "unordered", True),
            ([2, 1, 1], [1, 2, 2], "unordered", False),
            ({2, 1}, [1, 2], "unordered", True),
            ([[2, 1], [3]], [[3], [1, 2]], "unordered", False),
            ([[2, 1], [3]], [[3], [1, 2]], "unordered_nested", True),
            ([10.0000000001, 9.9999999999], [9.9999999999, 10.0], "unordered", True),
            ([None, "a", 1, (2,)], [(2,), 1, "a", None], "unordered", True),
        ],
    )
    def test_values_in_any_order(self, found, expected, how, same):
        assert same_value(interpreter.encode(found), interpreter.encode(expected), how) is same

    def test_lines_that_are_not_values(self):
        lines = [b"", b"[" * 100_000, b'{"$dict": 1}', b'{"$int": 3}', b'{"$set": [1]}', b"9" * 9999, b"\xff"]
        assert not any(same_result(line, [[1], {"$dict": []}, 3]) for line in lines)

    def test_many_chosen_integers_take_linear_time(self):
        # Integers that are equal modulo Python's hash modulus, over which a set of them takes quadratic time.
        chosen = [{"$int": hex(n * (2**61 - 1))} for n in range(20_000)]
        with time_limit(20):
            assert same_value({"$set": chosen}, {"$set": chosen[::-1]})


@pytest.mark.slow
class TestVerdicts:
    def test_text(self, sandbox):
        verdict = judge(fenced("print(sum(map(int, input().split())))"), ADD, sandbox)
        assert verdict == (Kind.RIGHT, "passed")

    @pytest.mark.parametrize(
        "program, reason",
        [
            ("a, b = map(int, input().split()); print(a + abs(b))", "case 2: wrong output"),
            ("print(3)\nimport sys; sys.exit(1)", "case 1: exit code 1"),
            ("print(3)\nraise ValueError('no')", "case 1: exit code 1 (ValueError: no)"),
            ("print(3", "case 1: exit code 1 on Python VERSION (SyntaxError: '(' was never closed)"),
            ("print(3); exit(2)", "case 1: exit code 2"),
            ("while True: pass", "case 1: cpu limit"),
            ("import os; os.abort()", "case 1: exit code 134"),
        ],
    )
    def test_wrong_text(self, sandbox, program, reason):
        problem = Problem.parse(vars(ADD) | {"limits": {"cpu_seconds": 1}})
        verdict = judge_program(program, problem, sandbox)
        assert verdict == (Kind.WRONG, reason.replace("VERSION", sandbox.python.version))

    def test_a_response_without_a_program(self, sandbox):
        verdict = judge("3", ADD, sandbox)
        assert verdict == (Kind.NO_PROGRAM, "no program: no fenced block of python") and verdict.correct is False

    @pytest.mark.parametrize("language", ["c", "cpp"])
    def test_compiled(self, sandbox, language):
        program = '#include <stdio.h>\nint main() { int a, b; scanf("%d %d", &a, &b); printf("%d", a + b); }'
        problem = Problem.parse(vars(ADD) | {"limits": {}, "language": language})
        assert judge_program(program, problem, sandbox).reason == "passed"
        verdict = judge_program("int main() { return x; }", problem, sandbox)
        assert verdict.kind is Kind.WRONG
        assert verdict.reason.startswith("does not compile: ") and "error" in verdict.reason
        assert judge_program('#include "/etc/passwd"', problem, sandbox).correct is False

    @pytest.mark.parametrize("language, program", OTHER_LANGUAGES.items())
    def test_other_languages(self, sandbox, language, program):
        if package := LANGUAGES[language].missing():
            pytest.skip(f"the toolchain of {language} is not installed: apt-get install {package}")
        problem = Problem.parse(vars(ADD) | {"limits": {}, "language": language})
        assert judge_program(program, problem, sandbox).reason == "passed"

    @pytest.mark.parametrize(
        "program",
        [
            "a, b = map(int, input().split())\nprint(a + b)\nexit()",
            "a, b = map(int, input().split())\nif a > 100:\n    print(-1);quit()\nprint(a + b)\nquit(0)",
            "import sys\na, b = map(int, open('input.txt').read().split())\nsys.stdout = open('output.txt', 'w')\n"
            "print(a + b)",
            "a, b = map(int, input().split())\nout = open(1, 'w')\nout.write(str(a + b))",
            "def main():\n    print(sum(map(int, input().split())))\nif __name__ == '__main__':\n    main()",
            "import atexit\natexit.register(lambda: print(sum(map(int, input().split()))))",
            "import threading\nthreading.Thread(target=lambda: print(sum(map(int, input().split())))).start()",
            "def f(n): return n and 1 + f(n - 1)\nf(20_000)\nprint(sum(map(int, input().split())))",
            "import io, sys\nsys.stdout = io.TextIOWrapper(open(1, 'wb', closefd=False))\n"
            "print(sum(map(int, input().split())))",
        ],
    )
    def test_idioms_of_text_programs(self, sandbox, program):
        assert judge_program(program, ADD, sandbox).reason == "passed"

    def test_integers_of_any_length(self, sandbox):
        problem = Problem.parse({"cases": [{"input": "", "output": f"{hex(2**40000)} " + "1" + "0" * 6000}]})
        assert judge_program("print(hex(2**40000), 10**6000)", problem, sandbox).reason == "passed"

    def test_several_accepted_outputs(self, sandbox):
        for case in ({"input": "", "output": ["a", "b"]}, {"input": "", "outputs": ["a", "b"]}):
            problem = Problem.parse({"cases": [case]})
            rewards = [judge_program(f"print({text!r})", problem, sandbox).correct for text in "abc"]
            assert rewards == [1, 1, 0]

    def test_a_large_output_is_compared_in_the_sandbox(self, sandbox):
        problem = Problem.parse({"cases": [{"input": "", "output": "0.5 " * 400_000}]})
        assert judge_program("print('0.50 ' * 400_000)", problem, sandbox).reason == "passed"
        assert judge_program("print('0.50 ' * 399_999 + '0.6')", problem, sandbox).reason == "case 1: wrong output"
        problem = Problem.parse({"function": "f", "cases": [{"args": [], "output": list(range(200_000))}]})
        assert judge_program("def f(): return range(200_000)", problem, sandbox).reason == "passed"

    def test_large_data_of_c(self, sandbox):
        program = '#include <cstdio>\nint a[5000000]={1};int main(){int x,y;scanf("%d%d",&x,&y);printf("%d",x+y);}'
        problem = Problem.parse(vars(ADD) | {"limits": {}, "language": "cpp"})
        assert judge_program(program, problem, sandbox).reason == "passed"
        deep = "int g(int n){volatile char b[160];b[0]=1;return n?b[0]+g(n-1):0;}int main(){return g(400000)!=400000;}"
        problem = Problem.parse({"cases": [{"input": "", "output": ""}], "language": "cpp"})
        assert judge_program(deep, problem, sandbox).reason == "passed"

    def test_a_header_is_compiled_once(self, sandbox):
        program = (
            "#include <bits/stdc++.h>\nusing namespace std; int main() { int a, b; cin >> a >> b; cout << a + b; }"
        )
        problem = Problem.parse(vars(ADD) | {"limits": {}, "language": "cpp"})
        assert judge_program(program, problem, sandbox).reason == "passed"
        assert (sandbox.shared / "bits" / "stdc++.h.gch").stat().st_size > 1 << 20
        used = sandbox.run(
            ["/bin/sh", "-c", LANGUAGES["cpp"].compile.replace("-O2", "-O2 -H")],
            files={"main.cpp": program.encode()},
            limits=COMPILE_LIMITS,
        )
        assert b"! /shared/bits/stdc++.h.gch" in used.stderr

    def test_limits_are_of_each_case(self, sandbox):
        cases = [{"args": [n], "output": n} for n in range(4)]
        problem = Problem.parse({"function": "f", "cases": cases, "limits": {"cpu_seconds": 0.7}})
        spin = "import time\ndef f(n):\n    while time.process_time() < 0.4: pass\n    return n"
        assert judge_program(spin, problem, sandbox).reason == "passed"

    def test_calls_do_not_see_each_other(self, sandbox):
        problem = Problem.parse({"function": "f", "cases": [{"args": [], "output": 1}] * 2})
        count = "calls = []\ndef f():\n    calls.append(1)\n    return len(calls)"
        assert judge_program(count, problem, sandbox).reason == "passed"

    def test_a_function(self, sandbox):
        assert judge_program("def double(n): return 2 * n", DOUBLE, sandbox).correct
        verdict = judge_program("def double(n): return n + 1", DOUBLE, sandbox)
        assert verdict == (Kind.WRONG, "case 2: wrong result")

    def test_an_exception_is_the_outcome_of_one_call(self, sandbox):
        verdict = judge_program("def double(n): return 2 * n if n < 20 else {}[n]", DOUBLE, sandbox)
        assert verdict.reason == "case 2: exception (KeyError: 21)"
        program = "def double(n): return 2 * n if n < 20 else {}[n]"
        lines = [result.stdout for result in run_cases(program, [{"args": [n]} for n in (1, 21)], DOUBLE, sandbox)]
        assert lines == [b"2\n", b'{"$error": "KeyError: 21"}\n']

    def test_a_method(self, sandbox):
        problem = Problem.parse(vars(DOUBLE) | {"limits": {}, "function": "Solution.double"})
        program = "class Solution:\n    def double(self, n): print('debug'); return 2 * n"
        assert all(judge_program(program, each, sandbox).correct for each in (problem, DOUBLE))
        assert judge_program("def double(n): return 2 * n", problem, sandbox).correct

    @pytest.mark.parametrize(
        "program",
        [
            "def f(self, a: List[int]) -> Optional[TreeNode]: return len(deque(a)) + len(Counter(a)) * pow(1, 5, 32)",
            "def f(self, a): h = []; heappush(h, inf); return 5 if bisect_left(a, 2) == 2 and gcd(4, 6) == 2 else 0",
        ],
    )
    def test_the_imports_solutions_take_for_granted(self, sandbox, program):
        problem = Problem.parse({"function": "Solution.f", "cases": [{"args": [[1, 1, 2]], "output": 5}]})
        program = "class Solution:\n    " + program
        assert judge_program(program, problem, sandbox).reason == "passed"
        bare = Problem.parse(vars(problem) | {"limits": {}, "preamble": ""})
        assert "NameError" in judge_program(program, bare, sandbox).reason

    def test_the_preamble_hides_no_builtin_and_solves_no_problem(self, sandbox):
        problem = Problem.parse({"function": "f", "cases": [{"args": [2, 5, 32], "output": 0}]})
        assert judge_program("def f(*args): return pow(*args)", problem, sandbox).reason == "passed"
        problem = Problem.parse({"function": "gcd", "cases": [{"args": [4, 6], "output": 2}]})
        assert "NameError" in judge_program("", problem, sandbox).reason
        assert judge_program("class Solution:\n    def gcd(self, a, b): return 3", problem, sandbox).correct is False
        assert judge_program("from math import gcd", problem, sandbox).reason == "passed"

    def test_a_result_in_place_and_in_any_order(self, sandbox):
        rotate = "class Solution:\n    def rotate(self, nums, k):\n        nums[:] = nums[-k:] + nums[:-k]"
        data = {"function": "Solution.rotate", "cases": [{"args": [[1, 2, 3], 1], "output": [3, 1, 2]}]}
        assert judge_program(rotate, Problem.parse(data | {"in_place": 0}), sandbox).reason == "passed"
        assert judge_program(rotate, Problem.parse(data), sandbox).reason == "case 1: wrong result"
        data = {"function": "f", "compare": "unordered", "cases": [{"args": [], "output": [1, 2]}]}
        assert judge_program("def f(): return [2, 1]", Problem.parse(data), sandbox).reason == "passed"
        assert judge_program("def f(): return [2, 2]", Problem.parse(data), sandbox).correct is False

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
        assert verdict.correct is False

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
        assert verdict == (Kind.WRONG, "case 1: wrong result")

    def test_the_program_sees_no_outputs(self, sandbox):
        cases = [{"args": [], "output": "987654321"}, {"args": [], "output": "True False"}]
        program = """
import gc, os, sys
def f():
    text = repr(gc.get_objects()) + repr(sys.argv)
    for root, _, names in os.walk("/tmp"):
        text += "".join(open(os.path.join(root, name), errors="replace").read() for name in names)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        text += open(f"/proc/{pid}/cmdline").read()
    return f'{"starter.py" in text} {"".join(["98765", "4321"]) in text}'
"""
        problem = Problem.parse({"function": "f", "cases": cases})
        assert judge_program(program, problem, sandbox).reason == "case 1: wrong result"
        problem = Problem.parse({"function": "f", "cases": cases[1:]})
        assert judge_program(program, problem, sandbox).reason == "passed"

    def test_a_failure_of_the_sandbox_is_not_a_plain_0(self):
        class Broken:
            def run_python(self, *_, **__):
                raise SandboxError("no more memory on this machine")

        for problem in (ADD, DOUBLE):
            verdict = judge_program("print(1)", problem, Broken())
            assert verdict == (Kind.FAILED, "the sandbox failed: no more memory on this machine")

    def test_many_keep_their_order(self, sandbox):
        responses = [fenced(f"def double(n): return n * {n % 2 + 1}") for n in range(6)]
        verdicts = list(judge_all(responses, [DOUBLE] * 6, sandbox))
        assert [verdict.correct for verdict in verdicts] == [False, True] * 3


class TestProblems:
    def test_a_language_without_its_toolchain(self, monkeypatch):
        monkeypatch.setattr("kimi_plugins.grading.languages.Path.exists", lambda path: False)
        with pytest.raises(ValueError, match="language is 'go', whose toolchain .*apt-get install golang-go"):
            Problem.parse({"cases": [{"input": "", "output": ""}], "language": "go"})

    @pytest.mark.parametrize(
        "data, named",
        [
            ([], "a problem is a JSON object with cases"),
            ({}, "cases: it must be a list"),
            ({"cases": []}, "cases: it must be a list of at least one"),
            ({"cases": [{"input": "1"}]}, "case 1: it must be an object with output"),
            ({"cases": [{"input": "1", "output": "1", "outputs": ["1"]}]}, "case 1: it must be an object with output"),
            ({"cases": [{"input": "1", "outputs": []}]}, "case 1: outputs must be a list of at least one"),
            ({"cases": [{"input": "1", "output": []}]}, "case 1: input and output must be text"),
            ({"cases": [{"input": "\ud800", "output": "1"}]}, "case 1: .*half of a surrogate pair"),
            ({"cases": [{"input": "1", "output": "1", "weight": 1}]}, "case 1: unknown key 'weight'"),
            ({"cases": [{"input": [3], "output": 6}], "function": "f"}, "case 1: it has input; a function is called"),
            ({"cases": [{"args": [3], "output": "6"}]}, "case 1: it has args or kwargs"),
            ({"cases": [{"input": "", "output": ""}], "test_cases": []}, "unknown key 'test_cases'; the keys are"),
            ({"cases": [{"input": "", "output": ""}], "tolerance": True}, "tolerance is True"),
            ({"cases": [{"input": "", "output": ""}], "in_place": 0}, "in_place: only a function"),
            ({"cases": [{"args": [1], "output": 1}], "function": "f", "in_place": 1}, "the case has fewer arguments"),
            ({"cases": [{"input": "", "output": ""}], "files": ["a"]}, "files is .*two file names"),
            ({"cases": [{"input": "", "output": ""}], "files": ["../a", "b"]}, "files is .*two file names"),
            ({"cases": [{"input": "", "output": ""}], "preamble": 1}, "preamble: it must be Python text"),
            ({"cases": [{"input": "", "output": ""}], "ignore_case": 1}, "ignore_case is 1"),
            ({"cases": [{"input": "", "output": ""}], "limits": {"cpu_seconds": "2"}}, "limit cpu_seconds is '2'"),
            ({"cases": [{"input": "", "output": ""}], "limits": {"memory_mb": 1.5}}, "memory_mb is 1.5: .*whole"),
            ({"cases": [{"input": "", "output": ""}], "limits": {"memory_mb": 4}}, "memory_mb is 4: .*from 16 to"),
            ({"cases": [{"input": "", "output": ""}], "limits": [1]}, "limits is .*an object with some of"),
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
    def test_what_is_wrong_is_named(self, data, named):
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
        with pytest.raises(ValueError, match="the label is not JSON"):
            read_label("{")
        twice = tmp_path / "twice.jsonl"
        twice.write_text('{"id": 1}\n{"id": "1"}\n')
        with pytest.raises(ValueError, match="line 2: the id '1' is there twice"):
            read_label(f"{twice}#1")
