"""Where the reward of a rollout comes from."""

import ast
import importlib.util
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from kimi_plugins.preflight import cluster


def _defines(tree: ast.Module, name: str) -> bool:
    """Whether a Python file binds `name`, by its syntax alone. A star import may bind anything."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=bound) | ast.AsyncFunctionDef(name=bound) | ast.ClassDef(name=bound):
                names = [bound]
            case ast.Name(id=bound, ctx=ast.Store()):
                names = [bound]
            case ast.alias(name=bound, asname=alias):
                names = [alias or bound]
            case _:
                continue
        if name in names or "*" in names:
            return True
    return False


def _takes(tree: ast.Module, name: str, count: int) -> bool:
    """Whether a top-level function of a Python file can be called with `count` positional arguments, if it is one."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name and not node.decorator_list:
            given = node.args
            most = len(given.posonlyargs) + len(given.args)
            enough = most - len(given.defaults) <= count and None not in given.kw_defaults
            return enough and (count <= most or given.vararg is not None)
    return True


def _missing_imports(tree: ast.Module, path: str) -> list[str]:
    """Packages that a Python file imports at its top level, and that are neither installed nor beside it or here."""
    names = []
    for node in tree.body:
        match node:
            case ast.Import(names=aliases):
                names += [alias.name for alias in aliases]
            case ast.ImportFrom(module=str(module), level=0):
                names.append(module)
    packages = dict.fromkeys(name.partition(".")[0] for name in names)
    beside = (Path(path).parent, Path())
    return [
        name
        for name in packages
        if importlib.util.find_spec(name) is None and not any(list(folder.glob(f"{name}*")) for folder in beside)
    ]


def _check_file(key: str, path: str, name: str) -> Iterator[str]:
    try:
        tree = ast.parse(Path(path).read_bytes(), path)
        if not _defines(tree, name):
            yield f"{key}: {path} defines no {name}; add it"
        elif name == "reward_func" and not _takes(tree, name, 3):
            yield (
                f"{key}: {path}: reward_func is called with three arguments, which its signature does not take; write "
                "def reward_func(queries, prompts, labels)"
            )
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
            yield from _check_file("train.agent_func_path", agent, "AgentExecutor")
        else:
            yield f"train.agent_func_path: {agent} is not a .py file; name one that defines AgentExecutor"
    elif urls == ["plugin"]:  # a plugin grades the responses
        return
    elif urls and urls[0].endswith(".py"):
        yield from _check_file(key, urls[0], "reward_func")
    else:
        for url in urls:
            yield from _check_server(url.strip())


def _urls(args) -> list[str]:
    remote = args.reward.remote_url or []
    return remote.split(",") if isinstance(remote, str) else remote
