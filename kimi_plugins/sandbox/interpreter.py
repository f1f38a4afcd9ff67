"""Runs a Python program inside the sandbox, or calls one of its functions and writes the encoded result.

Standard library only: this file is what runs there. The program shares the process and may do with it what it likes:
what counts is what it writes, compared outside with outputs that are not here.
"""

import builtins
import json
import math
import os
import sys
import types
from functools import lru_cache

RECURSION_LIMIT = 50_000  # as judges of functions set it; the stack is as large as the memory limit
PACKAGES = "/packages"


def encode(value):
    """A value as JSON, what JSON has no form for under a key with $; TypeError for other types.

    Subclasses become the plain type, so that nothing of their own behaviour is left. Generators, ranges and other
    iterables become lists; Decimal, Fraction and NumPy numbers become plain numbers.
    """
    if value is None or isinstance(value, bool | str):
        return value if value is None or isinstance(value, bool) else str.__str__(value)
    if isinstance(value, int):
        value = int.__int__(value)
        return value if -(2**63) <= value < 2**63 else {"$int": hex(value)}
    if isinstance(value, float):
        value = float.__float__(value)
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [encode(item) for item in value]}
    if isinstance(value, set | frozenset):
        return {"$set": [encode(item) for item in value]}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {str.__str__(key): encode(item) for key, item in value.items()}
        return {"$dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, complex):
        return {"$complex": [encode(value.real), encode(value.imag)]}
    if isinstance(value, bytes | bytearray):
        return {"$bytes": bytes(value).hex()}
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return encode(value.tolist())
    if hasattr(value, "as_integer_ratio") and hasattr(value, "__float__"):  # Decimal and Fraction
        number = float(value)
        return encode(int(value) if math.isfinite(number) and int(value) == value else number)
    if hasattr(value, "__iter__"):
        return [encode(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be compared; return numbers, text, or collections of them")


def decode(value):
    """The inverse of encode(). ValueError or TypeError for anything encode() does not write."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: decode(item) for key, item in value.items()}
    if len(value) != 1:
        raise ValueError(f"a key with $ must be the only key of its object: {sorted(value)}")
    [(tag, content)] = value.items()
    match tag:
        case "$int":
            return int(content, 16)
        case "$float":
            return float(content)
        case "$tuple":
            return tuple(decode(item) for item in content)
        case "$set":
            return {_hashable(decode(item)) for item in content}
        case "$dict":
            return {_hashable(decode(key)): decode(item) for key, item in content}
        case "$complex":
            real, imaginary = content
            return complex(decode(real), decode(imaginary))
        case "$bytes":
            return bytes.fromhex(content)
    raise ValueError(f"unknown key {tag}")


def _hashable(value):
    return frozenset(value) if isinstance(value, set) else value


def run(program: str, request: dict) -> None:
    """Run the program in the file as the main module; exceptions and SystemExit are its own.

    request: preamble (text whose names the program finds beside the builtins), function (its name or Class.method;
    None: the program reads and writes text), call ([args, kwargs], encoded), in_place (number of the argument that is
    the result; None: what the function returns), arguments (of the command line). The result, or what was raised
    under $error, is a line on standard output.
    """
    sys.set_int_max_str_digits(0)
    sys.setrecursionlimit(RECURSION_LIMIT)
    sys.path[:0] = [os.getcwd()]
    sys.path.append(PACKAGES)
    sys.argv = [program, *request.get("arguments", [])]
    function = request.get("function")
    if function is not None:
        results = os.dup(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the program prints is no result
    with open(program, "rb") as file:
        source = file.read()
    main = types.ModuleType("__main__")
    main.__file__ = program
    vars(main)["__builtins__"] = _builtins(request.get("preamble"))
    sys.modules["__main__"] = main
    if function is not None:
        main.__name__ = "solution"
        sys.modules["solution"] = main
    exec(compile(source, program, "exec"), main.__dict__)
    if function is None:
        return
    try:
        args, kwargs = decode(request["call"])
        value = _find(main, function)(*args, **kwargs)
        if request.get("in_place") is not None:
            value = [*args, *kwargs.values()][request["in_place"]]
        line = json.dumps(encode(value))
    except Exception as error:  # whatever a program raises is the outcome of this call
        line = json.dumps({"$error": f"{type(error).__name__}: {error}"[:200]})
    with open(results, "w") as file:
        file.write(line + "\n")


def _builtins(preamble: str | None):
    """The builtins of the program, and after them what the preamble defines.

    So the program finds those names, but they are none that it has defined itself: a function that is to be called
    must be its own.
    """
    if not preamble:
        return builtins
    return names_of(preamble) | vars(builtins)


@lru_cache
def names_of(preamble: str) -> dict:
    """What a preamble defines."""
    names = {"__name__": "preamble"}
    exec(compile(preamble, "preamble.py", "exec"), names)
    return names


def _find(main, name: str):
    """The function, or the method of a class made without arguments.

    A method may also stand alone, and a function in a class Solution, as both are common in data sets.
    """
    first, _, method = name.rpartition(".")
    if first and hasattr(main, first):
        return getattr(getattr(main, first)(), method)
    if hasattr(main, method):
        return getattr(main, method)
    if not first and hasattr(main, "Solution"):
        return getattr(main.Solution(), method)
    raise NameError(f"name {first or method!r} is not defined")
