"""Calls one function of a program with JSON inputs and writes JSON outputs, inside the sandbox.

Standard library only: this file is what runs there. The program shares the process and may do with it what it likes:
what counts is what it writes, compared outside with outputs that are not here.
"""

import json
import math
import os
import sys


def encode(value):
    """A value as JSON, what JSON has no form for under a key with $; TypeError for other types.

    Subclasses become the plain type, so that nothing of their own behaviour is left.
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
    raise TypeError(f"a {type(value).__name__} cannot be compared; return numbers, text, or collections of them")


def decode(value):
    """What encode() was given. ValueError or TypeError for anything it does not write."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: decode(item) for key, item in value.items()}
    if len(value) != 1:
        raise ValueError(f"keys with $ stand alone: {sorted(value)}")
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


def main(program: str, name: str) -> None:
    """Serve the calls on standard input: a line [args, kwargs] each; a line of output for each, or $error."""
    calls = [decode(json.loads(line)) for line in sys.stdin]
    results = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the program prints is no result
    namespace = {"__name__": "solution"}
    with open(program, encoding="utf-8") as file:
        exec(compile(file.read(), program, "exec"), namespace)
    for args, kwargs in calls:
        try:
            function = namespace[name.split(".")[0]]
            if "." in name:  # a method of a class without arguments
                function = getattr(function(), name.split(".")[1])
            line = json.dumps(encode(function(*args, **kwargs)))
        except Exception as error:  # whatever a program raises is the outcome of this call alone
            line = json.dumps({"$error": f"{type(error).__name__}: {error}"[:200]})
        results.write(line + "\n")
        results.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
