"""Runs a Python program inside the sandbox, or calls one of its functions and writes the encoded result.

Standard library only: this file is what runs there. The program shares the process and may do with it what it likes:
what counts is what it writes, compared outside with outputs that are not here.
"""

import builtins
import inspect
import json
import math
import os
import re
import sys
import types
from functools import lru_cache

RECURSION_LIMIT = 50_000  # as judges of functions set it; the stack is as large as the memory limit
PACKAGES = "/packages"


class ListNode:
    """LeetCode's linked list."""

    def __init__(self, val=0, next=None):
        self.val, self.next = val, next


class TreeNode:
    """LeetCode's binary tree."""

    def __init__(self, val=0, left=None, right=None):
        self.val, self.left, self.right = val, left, right


NODES = {"ListNode": ListNode, "TreeNode": TreeNode}


def encode(value):
    """A value as JSON, what JSON has no form for under a key with $; TypeError for other types.

    Subclasses become the plain type, so that nothing of their own behaviour is left. Generators, ranges and other
    iterables become lists; Decimal, Fraction and NumPy numbers become plain numbers. Whatever has the attributes of a
    ListNode or TreeNode is written as LeetCode does: the values, of trees level by level, null for none.
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
    if hasattr(value, "val") and hasattr(value, "next"):
        return {"$list": [encode(node.val) for node in _linked(value)]}
    if hasattr(value, "val") and hasattr(value, "left") and hasattr(value, "right"):
        return {"$tree": [None if node is None else encode(node.val) for node in _levels(value)]}
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return encode(value.tolist())
    if hasattr(value, "as_integer_ratio") and hasattr(value, "__float__"):  # Decimal and Fraction
        number = float(value)
        return encode(int(value) if math.isfinite(number) and int(value) == value else number)
    if hasattr(value, "__iter__"):
        return [encode(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be compared; return numbers, text, or collections of them")


def _linked(node) -> list:
    """The nodes of a linked list. ValueError if it has a cycle."""
    nodes, seen = [], set()
    while node is not None:
        if id(node) in seen:
            raise ValueError("a linked list with a cycle cannot be compared")
        nodes.append(node)
        seen.add(id(node))
        node = node.next
    return nodes


def _levels(root) -> list:
    """The nodes of a tree level by level, None for a missing child, without those at the end.

    Raises:
        ValueError: a node is there twice.
    """
    nodes, seen = [root], set()
    for node in nodes:
        if node is None:
            continue
        if id(node) in seen:
            raise ValueError("a tree in which a node is there twice cannot be compared")
        seen.add(id(node))
        nodes += [node.left, node.right]
    while nodes[-1] is None:
        nodes.pop()
    return nodes


def _linked_list(values: list, node):
    head = None
    for value in reversed(values):
        made = node(value)
        made.next, head = head, made
    return head


def _tree(values: list, node):
    """Raises ValueError if a value has no parent."""
    if not values or values[0] is None:
        if values:
            raise ValueError("a tree begins with its root, which is not null; an empty one is []")
        return None
    nodes = [None if value is None else node(value) for value in values]
    parents = (made for made in nodes if made is not None)
    for at in range(1, len(nodes), 2):
        parent = next(parents, None)
        if parent is None or parent is nodes[at]:
            raise ValueError(f"a tree of {len(nodes)} values: the one at position {at} has no parent")
        parent.left = nodes[at]
        if at + 1 < len(nodes):
            parent.right = nodes[at + 1]
    return nodes[0]


def decode(value, nodes=NODES):
    """The inverse of encode(). ValueError or TypeError for anything encode() does not write.

    nodes: the classes that stand for ListNode and TreeNode, by these names.
    """
    if isinstance(value, list):
        return [decode(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: decode(item, nodes) for key, item in value.items()}
    if len(value) != 1:
        raise ValueError(f"a key with $ must be the only key of its object: {sorted(value)}")
    [(tag, content)] = value.items()
    match tag:
        case "$int":
            return int(content, 16)
        case "$float":
            return float(content)
        case "$tuple":
            return tuple(decode(item, nodes) for item in content)
        case "$set":
            return {_hashable(decode(item)) for item in content}
        case "$dict":
            return {_hashable(decode(key)): decode(item, nodes) for key, item in content}
        case "$list" if isinstance(content, list):
            return _linked_list([decode(item) for item in content], nodes["ListNode"])
        case "$tree" if isinstance(content, list):
            return _tree([decode(item) for item in content], nodes["TreeNode"])
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the program prints is not its result
    with open(program, "rb") as file:
        source = file.read()
    main = types.ModuleType("__main__")
    main.__file__ = program
    vars(main)["__builtins__"] = _builtins(request.get("preamble") or "", NODES if function is not None else {})
    sys.modules["__main__"] = main
    if function is not None:
        main.__name__ = "solution"
        sys.modules["solution"] = main
    exec(compile(source, program, "exec"), main.__dict__)
    if function is None:
        return
    try:
        annotated = any(name.encode() in source for name in NODES)
        line = json.dumps(_call(main, _find(main, function), request["call"], request.get("in_place"), annotated))
    except Exception as error:  # whatever a program raises is the outcome of this call
        line = json.dumps({"$error": f"{type(error).__name__}: {error}"[:200]})
    with open(results, "w") as file:
        file.write(line + "\n")


def _call(main, function, call: list, in_place: int | None, annotated: bool):
    """The encoded result of a call.

    annotated: the program names ListNode or TreeNode. An argument of JSON lists becomes what the function's annotation
    says, if that is one of them or a list of them; a result of such an annotation that is None is an empty one.
    """
    found = vars(main)["__builtins__"]
    nodes = {name: getattr(main, name, None) or found[name] for name in NODES}
    args, kwargs = decode(call, nodes)
    if not annotated and in_place is None:
        return encode(function(*args, **kwargs))
    annotations, returned = _annotations(function) if annotated else ({}, "")
    names = [*list(annotations)[: len(args)], *[""] * (len(args) - len(annotations)), *kwargs]
    given = [
        _made(value, annotations.get(name, ""), nodes)
        for name, value in zip(names, [*args, *kwargs.values()], strict=True)
    ]
    value = function(*given[: len(args)], **dict(zip(kwargs, given[len(args) :], strict=True)))
    if in_place is not None:
        value, returned = given[in_place], annotations.get(names[in_place], "")
    if value is None and any(name in returned for name in NODES):
        return {"$list": []}
    return encode(value)


def _annotations(function) -> tuple[dict[str, str], str]:
    """The annotations of the parameters by name, and that of the result, as text."""
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return {}, ""
    parameters = {name: str(parameter.annotation) for name, parameter in found.parameters.items()}
    return parameters, str(found.return_annotation)


def _made(value, annotation: str, nodes: dict):
    """A JSON list as the linked list or tree, or the list of them, that an annotation names."""
    if not isinstance(value, list):
        return value
    for name, make in (("ListNode", _linked_list), ("TreeNode", _tree)):
        if name in annotation:
            if re.search(r"\b[Ll]ist\[", annotation):
                return [_made(item, name, nodes) for item in value]
            return make(value, nodes[name])
    return value


def _builtins(preamble: str, more: dict):
    """The builtins of the program, and after them what the preamble defines, and `more`.

    So the program finds those names, but they are not its own definitions: a function that is to be called
    must be its own.
    """
    if not preamble and not more:
        return builtins
    return more | (names_of(preamble) if preamble else {}) | vars(builtins)


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
