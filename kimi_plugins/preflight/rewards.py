"""Where the reward of a rollout comes from."""

import ast
import importlib.util
import ipaddress
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from kimi_plugins.preflight import cluster

_SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
_NO_FUNCTION = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Set, ast.Dict)


def _in_scope(node: ast.AST) -> Iterator[ast.AST]:
    """What is below a node in its own scope: not within functions and classes, nor where it is run as a script."""
    for child in ast.iter_child_nodes(node):
        yield child
        if isinstance(child, ast.If) and "__name__" in ast.unparse(child.test):
            yield from (below for other in child.orelse for below in (other, *_in_scope(other)))
        elif not isinstance(child, _SCOPES):
            yield from _in_scope(child)


def _bindings(tree: ast.Module, name: str) -> list[ast.AST]:
    """What binds `name` when a file is imported: definitions, imports and assignments. A star import may bind it."""
    found: list[ast.AST] = []
    assigned: list[ast.AST] = []  # targets, whose assignment has been seen
    for node in _in_scope(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names = [node.name]
            case ast.alias(name=bound, asname=alias):
                names = [alias or bound]
            case ast.Assign(targets=targets):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
                assigned += targets
            case ast.AnnAssign(target=ast.Name(id=bound) as target):
                names = [bound] if node.value is not None else []
                assigned.append(target)
            case ast.Name(id=bound, ctx=ast.Store()) if node not in assigned:
                names = [bound]
            case _:
                continue
        if name in names or "*" in names:
            found.append(node)
    if not found:
        found = [node for node in ast.walk(tree) if isinstance(node, ast.Global) and name in node.names]
    return found


def _takes(given: ast.arguments, count: int) -> bool:
    """Whether a function can be called with `count` positional arguments."""
    most = len(given.posonlyargs) + len(given.args)
    enough = most - len(given.defaults) <= count and None not in given.kw_defaults
    return enough and (count <= most or given.vararg is not None)


def _by_name(given: ast.arguments) -> bool:
    """Whether a function takes what kimi-rewards passes by name."""
    names = {one.arg for one in (*given.args, *given.kwonlyargs)}
    return "response" in names and names <= {"response", "label", "prompt"}


def _value(tree: ast.Module, bound: ast.AST) -> ast.AST:
    """What a binding binds, through names that the file binds once (reward_func = grade)."""
    for _ in range(3):
        if isinstance(bound, ast.Assign | ast.AnnAssign) and bound.value is not None:
            bound = bound.value
        if isinstance(bound, ast.Name) and len(others := _bindings(tree, bound.id)) == 1:
            bound = others[0]
    return bound


def _is_no_reward(value: ast.expr, graded: bool) -> bool:
    """Whether a returned expression is certainly no dictionary with rewards. graded: numbers will do, see below."""
    if isinstance(value, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in value.keys]
        return None not in keys and "rewards" not in keys
    if graded:
        return isinstance(value, ast.Constant | ast.JoinedStr) and not isinstance(
            getattr(value, "value", None), int | float
        )
    called = value.func.id if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) else None
    return isinstance(value, (*_NO_FUNCTION, ast.ListComp, ast.GeneratorExp)) or called in ("float", "int", "bool")


def _reward_problem(tree: ast.Module, bound: ast.AST, graded: bool = False) -> str | None:
    """Why what reward_func is bound to can give no reward, as far as its syntax says.

    graded: kimi-rewards calls it, as a function of response, label and prompt, too, and takes numbers.
    """
    value = _value(tree, bound)
    three = "reward_func is called with three arguments, which its signature does not take; write "
    three += "def reward_func(queries, prompts, labels)"
    if isinstance(value, _NO_FUNCTION):
        return (
            f"reward_func is {ast.unparse(value)[:40]}, no function; write def reward_func(queries, prompts, labels)"
        )
    if isinstance(value, ast.ClassDef):
        return "reward_func is a class; write def reward_func(queries, prompts, labels)"
    if isinstance(value, ast.Lambda):
        return None if _takes(value.args, 3) or (graded and _by_name(value.args)) else three
    if not isinstance(value, ast.FunctionDef | ast.AsyncFunctionDef) or value.decorator_list:
        return None
    inside = list(_in_scope(value))
    if isinstance(value, ast.AsyncFunctionDef):
        return "reward_func is asynchronous, and nothing awaits it; write def instead of async def"
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in inside):
        return "reward_func is a generator; return the rewards instead of yielding them"
    returned = [node.value for node in inside if isinstance(node, ast.Return) and node.value is not None]
    if not returned and not any(isinstance(node, ast.Raise) for node in inside):
        return 'reward_func returns nothing; return {"rewards": …}'
    if returned and all(_is_no_reward(one, graded) for one in returned):
        return f'reward_func returns {ast.unparse(returned[-1])[:40]}; return a dictionary with "rewards"'
    return None if _takes(value.args, 3) or (graded and _by_name(value.args)) else three


def _agent_problem(tree: ast.Module, bound: ast.AST) -> str | None:
    value = _value(tree, bound)
    plain = isinstance(value, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, *_NO_FUNCTION))
    if plain or (isinstance(value, ast.ClassDef) and not value.bases):
        return "AgentExecutor is no class of an agent; let it inherit from openrlhf.utils.agent.AgentExecutorBase"
    return None


def _missing_imports(tree: ast.Module, path: str) -> list[str]:
    """Packages that a Python file imports at its top level, and that are neither installed nor beside it or here."""
    names = []
    for node in tree.body:
        match node:
            case ast.Import(names=aliases):
                names += [alias.name for alias in aliases]
            case ast.ImportFrom(module=str(module), level=0):
                names.append(module)
            case ast.ImportFrom(level=level) if level:
                return ["from " + "." * level + (node.module or "")]  # a file that is loaded alone has no package
    packages = dict.fromkeys(name.partition(".")[0] for name in names)
    beside = (Path(path).parent, Path())
    return [
        name
        for name in packages
        if importlib.util.find_spec(name) is None and not any(list(folder.glob(f"{name}*")) for folder in beside)
    ]


def _check_file(
    key: str, path: str, name: str, problem_of: Callable[[ast.Module, ast.AST], str | None]
) -> Iterator[str]:
    """problem_of(the file, what binds `name` in it)."""
    try:
        tree = ast.parse(Path(path).read_bytes(), path)
        bindings = _bindings(tree, name)
        if not bindings:
            yield f"{key}: {path} defines no {name} that an import would find; add it"
        elif len(bindings) == 1 and (problem := problem_of(tree, bindings[0])) is not None:
            yield f"{key}: {path}: {problem}"
        elif missing := _missing_imports(tree, path):
            yield f"{key}: {path} imports {', '.join(missing)}, which is not installed; install it, or drop the import"
    except FileNotFoundError:
        yield f"{key}: {path} does not exist; correct the path"
    except (OSError, SyntaxError, ValueError) as error:
        yield f"{key}: {path} cannot be read as Python ({error}); correct it"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_server(url: str) -> Iterator[str]:
    key = "reward.remote_url"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        yield f"{key}: {url} is not a web address; write http://host:port/path, or name a .py file with reward_func"
        return
    if cluster.ray_address() is not None or (port is None and not _is_loopback(host)):
        return  # another machine may see it, or a proxy may answer
    port = port or (443 if parts.scheme == "https" else 80)
    if (error := cluster.connection_error(host, port)) is not None:
        yield f"{key}: nothing answers at {host}:{port} ({error}); start the reward server, or correct the address"


def check_reward_choice(args) -> Iterator[str]:
    """Whether something grades the responses."""
    key, urls = "reward.remote_url", _urls(args)
    if args.train.agent_func_path:
        return
    if not urls and not args.reward.model_name_or_path:
        yield (
            f"{key}: not set, nor train.agent_func_path or reward.model_name_or_path, so no response gets a reward; "
            "name a .py file with reward_func, or one of the others"
        )


def check_reward(args) -> Iterator[str]:
    key, urls, agent = "reward.remote_url", _urls(args), args.train.agent_func_path
    if agent:
        if agent.endswith(".py"):
            yield from _check_file("train.agent_func_path", agent, "AgentExecutor", _agent_problem)
        else:
            yield f"train.agent_func_path: {agent} is not a .py file; name one that defines AgentExecutor"
    elif urls == ["plugin"]:  # a plugin grades the responses
        return
    elif urls and urls[0].endswith(".py"):
        graded = hasattr(getattr(args, "kimi", None), "rewards")
        found = list(_check_file(key, urls[0], "reward_func", partial(_reward_problem, graded=graded)))
        if graded and not found:
            found += _check_import(key, urls[0], args)
        yield from found
    else:
        for url in urls:
            yield from _check_server(url.strip())


def _check_import(key: str, path: str, args) -> Iterator[str]:
    """What kimi-rewards would meet when it loads the file; it looks itself where rows have kinds."""
    from kimi_plugins.rewards.settings import import_problem, is_mixed

    if not is_mixed(args) and (reason := import_problem(path)) is not None:
        yield f"{key}: {reason}; correct the file"


def _urls(args) -> list[str]:
    remote = args.reward.remote_url or []
    return remote.split(",") if isinstance(remote, str) else remote
