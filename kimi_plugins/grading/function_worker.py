"""The process in which a user's function grades, started by functions.py: python -m … DESCRIPTOR TARGET."""

import ctypes
import importlib
import importlib.util
import inspect
import os
import signal
import socket
import sys
import traceback

from kimi_plugins.grading import frames
from kimi_plugins.grading.extraction import without_special_tokens

REWARD_FUNCTION = "reward_func"  # what OpenRLHF calls in a reward file
OPENRLHF = ("queries", "prompts", "labels")
SINGLE = ("response", "label", "prompt")
_PR_SET_PDEATHSIG = 1


def load(target: str):
    """The function that `module:function` or a file with reward_func names. Raises whatever the import raises."""
    if target.endswith(".py"):
        spec = importlib.util.spec_from_file_location("reward_func", target)
        assert spec is not None and spec.loader is not None, target  # any name that ends in .py has a loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        name = REWARD_FUNCTION
    else:
        module_name, _, name = target.partition(":")
        module = importlib.import_module(module_name)
    try:
        found = getattr(module, name)
    except AttributeError:
        raise ValueError(f"it defines no {name}") from None
    if not callable(found):
        raise ValueError(f"{name} is a {type(found).__name__} and no function")
    return found


def signature(function, extra: list[str]) -> tuple[str, ...]:
    """Which arguments the function is called with: OpenRLHF's three lists, or some of response, label and prompt.

    extra: names of further arguments.

    Raises:
        ValueError: it takes others.
    """
    found = inspect.signature(function)
    for names in (OPENRLHF, SINGLE, SINGLE[:2], SINGLE[:1]):
        try:
            found.bind(**dict.fromkeys([*names, *extra]))
        except TypeError:
            continue
        return names
    try:  # OpenRLHF passes its lists by position, so their names are free
        found.bind(*OPENRLHF, **dict.fromkeys(extra))
    except TypeError:
        raise ValueError(
            f"it takes {found}: write a function of (response, label), of (response, label, prompt), or OpenRLHF's "
            "(queries, prompts, labels)"
        ) from None
    return OPENRLHF


def plain(value: object) -> object:
    """A value as JSON has it: tensors and arrays become lists and numbers. Raises TypeError for anything else."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"it returned a {type(value).__name__}; return a number, or OpenRLHF's dict with rewards")


def serve(connection: socket.socket, target: str) -> None:
    """Say how the function wants to be called, or why it cannot be, and then call it with what is sent."""
    extra = frames.receive(connection)
    try:
        function = load(target)
        names = signature(function, list(extra))
    except BaseException as error:  # a user's module raises anything, and may call sys.exit
        frames.send(connection, {"error": _short(error), "traceback": traceback.format_exc()})
        return
    frames.send(connection, {"arguments": names})
    while True:
        try:
            query, response, label, prompt = frames.receive(connection)
        except (EOFError, OSError):
            return
        try:
            if names == OPENRLHF:
                value = function([query], [prompt], [label], **extra)
            else:
                given = {"response": without_special_tokens(response), "label": label, "prompt": prompt}
                value = function(**{name: given[name] for name in names}, **extra)
            answer = {"value": plain(value)}
        except (Exception, SystemExit) as error:  # a user's function raises anything: a failed grade
            answer = {"error": _short(error), "traceback": traceback.format_exc()}
        frames.send(connection, answer)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
    os._exit(0)  # whatever threads the module has started
