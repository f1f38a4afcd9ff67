"""Problems for the code reward from the formats of public data sets.

Each format is a function from a row (or a Kattis package) to the JSON object that programs.Problem.parse reads. What
cannot be expressed as test cases is refused with its reason: interaction, checkers of several answers, tests that are
more than comparisons.
"""

import ast
import base64
import binascii
import io
import json
import math
import pickle
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kimi_plugins.data.containers import value_at
from kimi_plugins.grading.test_cases import SPECIAL_JUDGE
from kimi_plugins.sandbox.interpreter import encode

INTERACTIVE = re.compile(
    r"\binteractive (problem|task)|\bthis is an interactive\b|\bflush\w* (the )?(output|stdout)", re.I
)
LEAST_SECONDS = 5.0
TIME_FACTOR = 3.0  # of the time limit, which is set for compiled languages


class Refused(ValueError):
    """A problem that cannot be expressed; the message says why."""


STATED_TOLERANCE = re.compile(
    r"\b(?:absolute|relative)\s+(?:(?:or|and|/)\s+(?:absolute|relative)\s+)?(?:error|precision|difference)\b.{0,80}?"
    r"(?:10\s*\^?\s*\{?\s*[-−–]\s*(?P<power>\d{1,2})|1e-(?P<exponent>\d{1,2})|(?P<number>0\.0*1)\b)",
    re.IGNORECASE | re.DOTALL,
)


def apps(row: dict) -> dict:
    """APPS, TACO and verl: lists of inputs and outputs, of a function if there is a fn_name."""
    tests = row.get("input_output", row)
    if isinstance(row.get("reward_model"), dict):
        tests = row["reward_model"].get("ground_truth")
    tests = _loaded(tests, "input_output")
    if not isinstance(tests, dict) or not tests.get("inputs") or not tests.get("outputs"):
        raise Refused("no test cases")
    inputs, outputs, function = tests["inputs"], tests["outputs"], tests.get("fn_name")
    if len(inputs) != len(outputs):
        raise Refused(f"{len(inputs)} inputs, but {len(outputs)} outputs")
    pairs = zip(inputs, outputs, strict=True)
    if function is None:
        return _text_problem(row, [{"input": _lines(given), "output": _lines(output)} for given, output in pairs])
    problem = {"function": function, "cases": [_apps_call(given, output) for given, output in pairs]}
    return _with_nodes(problem, row.get("starter_code"))


def _apps_call(given, output) -> dict:
    """Arguments are a list, or a line of JSON each. An output stands in a list of its own, in most rows."""
    if isinstance(given, str):
        given = [_loaded(line, "an argument") for line in given.splitlines()]
        output = _loaded(output, "an output") if isinstance(output, str) else output
        accepted = [output]
    else:
        accepted = [output, output[0]] if isinstance(output, list) and len(output) == 1 else [output]
    if not isinstance(given, list):
        raise Refused("the arguments of a call are not a list")
    return {"args": [encode(_whole_keys(value)) for value in given], "outputs": [encode(value) for value in accepted]}


def livecodebench(row: dict) -> dict:
    """LiveCodeBench: public and private tests, the latter perhaps packed; functions by the metadata's func_name."""
    tests = _loaded(row["public_test_cases"], "public_test_cases") + _private_tests(row.get("private_test_cases"))
    function = (_loaded(row.get("metadata") or "{}", "metadata") or {}).get("func_name")
    kinds = {test.get("testtype", "stdin") for test in tests}
    if kinds == {"functional"} and function:
        name = f"Solution.{function}" if "class Solution" in row.get("starter_code", "") else function
        problem = {
            "function": name,
            "cases": [
                {
                    "args": [encode(_loaded(line, "an argument")) for line in test["input"].splitlines()],
                    "output": encode(_loaded(test["output"], "an output")),
                }
                for test in tests
            ],
        }
        return _with_nodes(problem, row.get("starter_code"))
    if kinds != {"stdin"}:
        raise Refused(f"test types {', '.join(sorted(kinds)) or 'are missing'}")
    return _text_problem(row, [{"input": test["input"], "output": test["output"]} for test in tests])


def prime_rl(row: dict) -> dict:
    """SYNTHETIC-1, INTELLECT-2 and DeepCoder: a list of tests with their type and function, or APPS' object."""
    tests = value_at(row, "verification_info.test_cases")
    if tests is None:
        tests = _loaded(row.get("tests"), "tests")
    if isinstance(tests, dict):
        return apps({**row, "input_output": tests})
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise Refused("no test cases")
    kinds = {str(test.get("type") or test.get("testtype") or "stdin_stdout") for test in tests}
    if kinds <= {"stdin_stdout", "stdin"}:
        cases = [{"input": _lines(test.get("input")), "output": _lines(test.get("output"))} for test in tests]
        return _text_problem(row, cases)
    functions = {test.get("fn_name") for test in tests}
    if kinds != {"function_call"} or len(functions) != 1 or not all(functions):
        raise Refused(f"tests of the types {', '.join(sorted(kinds))} and of {len(functions)} functions")
    calls = [_apps_call(test.get("input"), test.get("output")) for test in tests]
    return _with_nodes({"function": functions.pop(), "cases": calls}, row.get("starter_code"))


def _with_nodes(problem: dict, starter: str | None) -> dict:
    """The problem with linked lists and trees where the starter code's annotations have them; as lists otherwise."""
    try:
        body = ast.parse(f"{(starter or '').rstrip()} pass")
    except SyntaxError:
        return problem
    name = problem["function"].rpartition(".")[2]
    for node in ast.walk(body):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            parameters = [_annotation(argument.annotation) for argument in node.args.args if argument.arg != "self"]
            for case in problem["cases"]:
                case["args"][: len(parameters)] = map(_as_nodes, case["args"], parameters)
                for key in case.keys() & {"output", "outputs"}:
                    returned = _annotation(node.returns)
                    case[key] = (
                        [_as_nodes(value, returned) for value in case[key]]
                        if key == "outputs"
                        else _as_nodes(case[key], returned)
                    )
    return problem


def _annotation(node: ast.expr | None) -> str:
    return "" if node is None else ast.unparse(node)


def _as_nodes(value, annotation: str):
    for name, tag in (("ListNode", "$list"), ("TreeNode", "$tree")):
        if name in annotation and isinstance(value, list):
            return [{tag: item} for item in value] if re.search(r"\b[Ll]ist\[", annotation) else {tag: value}
    return value


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it holds {module}.{name}, not plain values")


def _private_tests(packed) -> list:
    """JSON, or base64 of zlib of a pickled text of JSON, in which no class is allowed."""
    if not packed:
        return []
    if not isinstance(packed, str) or packed.lstrip().startswith("["):
        return _loaded(packed, "private_test_cases")
    try:
        return json.loads(_PlainUnpickler(io.BytesIO(zlib.decompress(base64.b64decode(packed)))).load())
    except (ValueError, TypeError, binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, IndexError) as error:
        raise Refused(f"private_test_cases cannot be unpacked ({error})") from error


def code_contests(row: dict) -> dict:
    """CodeContests: public, private and generated tests as lists of inputs and outputs."""
    cases = []
    for name in ("public_tests", "private_tests", "generated_tests"):
        tests = row.get(name) or {}
        pairs = zip(tests.get("input", []), tests.get("output", []), strict=True)
        cases += [{"input": given, "output": output} for given, output in pairs]
    seconds = row.get("time_limit")
    if isinstance(seconds, dict):
        seconds = seconds.get("seconds", 0) + seconds.get("nanos", 0) / 1e9
    problem = _text_problem(row, cases) | _limits(seconds, (row.get("memory_limit_bytes") or 0) / 2**20)
    return problem | _files(row.get("input_file"), row.get("output_file"))


def codeforces(row: dict) -> dict:
    """open-r1/codeforces: official tests; interaction and checkers are refused."""
    if row.get("interaction_format"):
        raise Refused("interactive")
    if row.get("generated_checker"):
        raise Refused("special judge: it has a checker")
    if row.get("official_tests_complete") is False:
        raise Refused("the official tests are not complete")
    tests = row.get("official_tests") or []
    cases = [{"input": test["input"], "output": test["output"]} for test in tests]
    return _text_problem(row, cases) | _limits(row.get("time_limit"), row.get("memory_limit"))


def mbpp(row: dict) -> dict:
    """MBPP: a list of assertions."""
    setup = row.get("test_setup_code") or "\n".join(row.get("test_imports") or [])
    return of_asserts("\n".join(row["test_list"]), None) | ({"preamble": setup} if setup else {})


def human_eval(row: dict) -> dict:
    """HumanEval: a function check(candidate) of assertions."""
    return of_asserts(row["test"], row["entry_point"])


def leetcode(row: dict) -> dict:
    """LeetCodeDataset: as HumanEval, for a method of a class Solution, with the imports in `prompt`."""
    name = re.sub(r"\(\)", "", row["entry_point"])
    return of_asserts(row["test"], name) | ({"preamble": row["prompt"]} if row.get("prompt") else {})


def _text_problem(row: dict, cases: list[dict]) -> dict:
    text = statement_of(row)
    if INTERACTIVE.search(text):
        raise Refused("interactive")
    if found := SPECIAL_JUDGE.search(text):
        raise Refused(f"special judge: the statement says “{' '.join(found[0].split())}”")
    if not cases:
        raise Refused("no test cases")
    tolerance = stated_tolerance(text)
    return {"cases": cases} | ({} if tolerance is None else {"tolerance": tolerance})


def stated_tolerance(text: str) -> float | None:
    """The error that a statement allows, as in "absolute or relative error does not exceed 10^{-6}"; the smallest."""
    found = [
        float(match["number"]) if match["number"] else 10.0 ** -int(match["power"] or match["exponent"])
        for match in STATED_TOLERANCE.finditer(text)
    ]
    return min(found, default=None)


def _limits(seconds, memory_mb) -> dict:
    """Limits with room for slower languages, where the data set gives some."""
    limits: dict[str, float] = {}
    if seconds:
        cpu = max(LEAST_SECONDS, TIME_FACTOR * float(seconds))
        limits |= {"cpu_seconds": cpu, "wall_seconds": 2 * cpu}
    if memory_mb:
        limits["memory_mb"] = max(512, math.ceil(float(memory_mb)))
    return {"limits": limits} if limits else {}


def _files(given, output) -> dict:
    if given in (None, "", "stdin") and output in (None, "", "stdout"):
        return {}
    return {"files": [given or "input.txt", output or "output.txt"]}


def _loaded(value, name: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise Refused(f"{name} is not JSON ({error})") from error


def _lines(text) -> str:
    """Text, or a list of its lines."""
    if isinstance(text, list):
        return "\n".join(str(line) for line in text) + "\n"
    return str(text)


def _whole_keys(value):
    """JSON objects with whole numbers as keys were dictionaries with integers as keys."""
    if isinstance(value, list):
        return [_whole_keys(item) for item in value]
    if isinstance(value, dict):
        digits = bool(value) and all(re.fullmatch(r"-?\d{1,18}", key) for key in value)
        return {int(key) if digits else key: _whole_keys(item) for key, item in value.items()}
    return value


# Assertions


def of_asserts(text: str, function: str | None) -> dict:
    """The problem of assertions about one function: f(…) == value, or one of a few forms around it.

    function: its name; None: that which is called. In a check(candidate), candidate stands for it.
    """
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise Refused(f"the tests are not Python ({error.msg})") from error
    body = [inner for node in body for inner in _inside_check(node)]
    cases: list[dict] = []
    ways: list[dict[str, Any]] = []  # of comparing: the problem's settings by each assertion
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Pass | ast.Assign) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.Call)
        ):
            continue  # imports, METADATA, doc strings and the call of check()
        if not isinstance(node, ast.Assert):
            raise Refused(f"tests with {type(node).__name__.lower()} statements, not only assertions")
        if isinstance(node.test, ast.Constant):
            continue  # assert True, "message"
        call, outputs, how = _compared(node.test)
        name = ast.unparse(call.func)
        function = function or name
        if name not in (function, "candidate", function.rpartition(".")[2]):
            raise Refused(f"an assertion about {name}, not {function}")
        tolerance = {key: how.pop(key) for key in ("tolerance",) if key in how}
        ways.append(how)
        cases.append(
            {
                "args": [_encoded(_value(argument)) for argument in call.args],
                "kwargs": {str(keyword.arg): _encoded(_value(keyword.value)) for keyword in call.keywords},
                "outputs": [_encoded(output) for output in outputs],
            }
            | tolerance
        )
    if not cases:
        raise Refused("no assertions")
    if any(how != ways[0] for how in ways):
        raise Refused("assertions of several forms")
    return {"function": function, "cases": cases} | ways[0]


def _inside_check(node) -> list:
    return node.body if isinstance(node, ast.FunctionDef) and node.name == "check" else [node]


def _compared(test) -> tuple[ast.Call, list, dict]:
    """The call of an assertion, the values it accepts, and settings: tolerance of the case, others of the problem."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        left, right = test.left, test.comparators[0]
        if isinstance(test.ops[0], ast.Eq | ast.Is):
            return _equal(left, right)
        near = isinstance(test.ops[0], ast.Lt | ast.LtE) and _called(left, "abs")
        difference = left.args[0] if near and isinstance(left, ast.Call) else None
        if isinstance(difference, ast.BinOp) and isinstance(difference.op, ast.Sub):
            call, answer = difference.left, float(_value(difference.right))
            return _call(call), [answer], {"tolerance": {"absolute": float(_value(right))}}
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return _call(test.operand), [False, None, 0, "", [], {}], {}
    if isinstance(test, ast.Call) and (_called(test, "math.isclose") or _called(test, "isclose")):
        found = {keyword.arg: float(_value(keyword.value)) for keyword in test.keywords}
        tolerance = {"relative": found.get("rel_tol", 1e-9), "absolute": found.get("abs_tol", 0.0)}
        return _call(test.args[0]), [float(_value(test.args[1]))], {"tolerance": tolerance}
    if isinstance(test, ast.Call) and any(_called(test, name) for name in SAME_NODES) and len(test.args) == 2:
        return _equal(*test.args)
    return _call(test), [True], {}


def _equal(left, right) -> tuple[ast.Call, list, dict]:
    for call, answer in ((left, right), (right, left)):
        for name in ("set", "sorted", "Counter", "tuple", "list"):
            if _called(call, name) and isinstance(call.args[0], ast.Call) and not call.keywords:
                value = _value(answer.args[0] if _called(answer, name) else answer)
                how = {} if name in ("tuple", "list") else {"compare": "unordered"}
                return _call(call.args[0]), [list(value)], how
        if isinstance(call, ast.Call) and not _is_value(call):
            return _call(call), [_value(answer)], {}
    raise Refused("an assertion that calls nothing")


def _called(node, name: str) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == name and bool(node.args)


def _call(node) -> ast.Call:
    if not isinstance(node, ast.Call) or any(keyword.arg is None for keyword in node.keywords):
        raise Refused(f"an assertion of another form: {ast.unparse(node)[:60]}")
    return node


def _is_value(node) -> bool:
    try:
        _value(node)
    except Refused:
        return False
    return True


_MAKERS: dict[str, Callable] = {
    "set": set, "list": list, "tuple": tuple, "dict": dict, "frozenset": frozenset, "float": float, "complex": complex,
    "range": range,
}  # fmt: skip
# LeetCodeDataset's makers of linked lists and trees, and the comparisons of such.
NODE_MAKERS = {"list_node": "$list", "tree_node": "$tree"}
SAME_NODES = ("is_same_list", "is_same_tree")
_OPERATORS: dict[type, Callable] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b, ast.FloorDiv: lambda a, b: a // b, ast.Mod: lambda a, b: a % b,
    ast.Pow: lambda a, b: a**b,
}  # fmt: skip
LARGEST_FACTOR = 10**6


def _value(node) -> Any:
    """The value of an expression of literals, arithmetic and constructors. Raises Refused for any other."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        pass
    try:
        match node:
            case ast.List(elts=items):
                return [_value(item) for item in items]
            case ast.Tuple(elts=items):
                return tuple(_value(item) for item in items)
            case ast.Set(elts=items):
                return {_value(item) for item in items}
            case ast.Dict(keys=keys, values=values):
                return {_value(key): _value(value) for key, value in zip(keys, values, strict=True)}
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -_value(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                a, b = _value(left), _value(right)
                if (isinstance(op, ast.Pow) and not _small(b, 64)) or (
                    isinstance(op, ast.Mult) and not (_small(a, LARGEST_FACTOR) or _small(b, LARGEST_FACTOR))
                ):
                    raise Refused(f"a value that may be large: {ast.unparse(node)[:60]}")
                return _OPERATORS[type(op)](a, b)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _MAKERS:
                return _MAKERS[name](*[_value(argument) for argument in args])
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in NODE_MAKERS:
                return {NODE_MAKERS[name]: _value(argument)}
            case ast.Attribute(value=ast.Name(id="math"), attr="inf" | "nan" | "pi" | "e" as name):
                return getattr(math, name)
    except Refused:
        raise
    except (TypeError, ValueError, ArithmeticError, MemoryError) as error:
        raise Refused(f"a value that cannot be computed: {ast.unparse(node)[:60]}") from error
    raise Refused(f"a value that is not a literal: {ast.unparse(node)[:60]}")


def _encoded(value):
    """encode() of a value of _value, in which linked lists and trees are encoded already."""
    if isinstance(value, dict) and len(value) == 1 and set(value) <= set(NODE_MAKERS.values()):
        [(tag, items)] = value.items()
        return {tag: encode(items)}
    return [_encoded(item) for item in value] if isinstance(value, list) else encode(value)


def _small(value, limit: int) -> bool:
    return isinstance(value, int | float) and abs(value) <= limit


# Directories


def kattis(package: Path) -> dict:
    """A Kattis problem package: problem.yaml and data/{sample,secret}/*.in with *.ans."""
    import yaml

    described = yaml.safe_load((package / "problem.yaml").read_text(encoding="utf-8")) or {}
    validation = str(described.get("validation") or "default")
    if "interactive" in validation or described.get("type") == "interactive":
        raise Refused("interactive")
    if validation.split()[0] != "default" or (package / "output_validator").exists():
        raise Refused("special judge: it has an output validator")
    default = str(described.get("validator_flags") or "").split()
    cases, ways = [], []
    for given in sorted((package / "data").rglob("*.in")):
        answer = given.with_suffix(".ans")
        if not answer.exists():
            raise Refused(f"{given.name} has no answer")
        flags = _group_flags(given.parent, package, default)
        case: dict = {"input": given.read_text(encoding="utf-8"), "output": answer.read_text(encoding="utf-8")}
        if (tolerance := _tolerance(flags)) is not None:
            case["tolerance"] = tolerance
        cases.append(case)
        ways.append(("case_sensitive" in flags, "space_change_sensitive" in flags))
    if not cases:
        raise Refused("no test cases")
    if len(set(ways)) > 1:
        raise Refused("groups of cases that are compared in several ways")
    [(case_sensitive, space_sensitive)] = set(ways)
    problem: dict = {"id": package.name, "cases": cases, "ignore_case": not case_sensitive}
    if space_sensitive:
        problem["compare"] = "exact"
    limits = described.get("limits") or {}
    seconds = limits.get("time_limit")
    if seconds is None and (package / ".timelimit").exists():
        seconds = (package / ".timelimit").read_text().strip()
    statements = sorted(package.glob("problem_statement/problem*")) + sorted(package.glob("statement/problem*"))
    text = {"statement": statements[0].read_text(encoding="utf-8")} if statements else {}
    return problem | _limits(seconds, limits.get("memory")) | text


def _group_flags(directory: Path, package: Path, default: list[str]) -> list[str]:
    """The validator's flags for the cases in a directory: of the nearest testdata.yaml that has some."""
    import yaml

    for group in (directory, *directory.parents):
        if group == package:
            break
        if (file := group / "testdata.yaml").exists():
            settings = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            if (flags := settings.get("output_validator_flags")) is not None:
                return str(flags).split()
    return default


def _tolerance(flags: list[str]) -> float | dict[str, float] | None:
    """The tolerance that a validator's flags name; the last flag of a kind counts."""
    given = {name: float(value) for name, value in zip(flags, flags[1:], strict=False) if name.startswith("float_")}
    if (both := given.get("float_tolerance")) is not None:
        return both
    kinds = ("absolute", "relative")
    return {kind: given[name] for kind in kinds if (name := f"float_{kind}_tolerance") in given} or None


def quixbugs(file: Path) -> dict:
    """A QuixBugs file of test cases, a JSON line [arguments, output] each, for the function of the file's name."""
    cases = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip():
            args, output = json.loads(line)
            args = args if isinstance(args, list) else [args]
            cases.append({"args": [encode(value) for value in args], "output": encode(output)})
    return {"id": file.stem, "function": file.stem, "cases": cases}


# By name; each with columns by which it is recognised.
FORMATS: dict[str, tuple[Callable[[dict], dict], tuple[str, ...]]] = {
    "livecodebench": (livecodebench, ("public_test_cases", "starter_code")),
    "codecontests": (code_contests, ("public_tests", "private_tests")),
    "codeforces": (codeforces, ("official_tests",)),
    "humaneval": (human_eval, ("entry_point", "test", "canonical_solution")),
    "leetcode": (leetcode, ("entry_point", "test")),
    "mbpp": (mbpp, ("test_list",)),
    "apps": (apps, ("input_output",)),
    "verl": (apps, ("reward_model",)),
    "prime-rl": (prime_rl, ("verification_info",)),
    "deepcoder": (prime_rl, ("tests",)),
    "inputs-outputs": (apps, ("inputs", "outputs")),
}
DIRECTORIES: dict[str, Callable[[Path], dict]] = {"kattis": kattis, "quixbugs": quixbugs}
IDS = ("id", "task_id", "question_id", "problem_id", "slug", "name", "title")
STATEMENTS = ("statement", "problem_description", "question_content", "question", "description", "text", "problem")


def detected(row: dict) -> str:
    """The format of a row. Raises ValueError if it is not recognised."""
    for name, (_, columns) in FORMATS.items():
        if all(column in row for column in columns):
            return name
    raise ValueError(
        f"no format is recognised by the columns {', '.join(map(str, row))}; name one with --format: "
        f"{', '.join((*FORMATS, *DIRECTORIES))}"
    )


def statement_of(row: dict) -> str:
    """The problem's text, an empty one if there is none."""
    found = next((row[name] for name in STATEMENTS if isinstance(row.get(name), str) and row[name]), None)
    if found is None and isinstance(row.get("prompt"), str):
        return row["prompt"]
    return found or ""


def id_of(row: dict, number: int) -> str:
    return str(next((row[name] for name in IDS if row.get(name) not in (None, "")), number))


def directory_items(path: Path) -> Iterator[tuple[str, Path]]:
    """(format, item) of the Kattis packages or QuixBugs files in a directory, or of the one it is."""
    if (path / "problem.yaml").exists():
        yield "kattis", path
        return
    for item in sorted(path.iterdir()):
        if (item / "problem.yaml").exists():
            yield "kattis", item
        elif item.suffix == ".json":
            yield "quixbugs", item
