"""Wrong programs for checking test cases: a right one with one change of its syntax tree."""

import ast
import copy
import random


class Mutation(ast.NodeTransformer):
    """Changes one node of a syntax tree, the n-th that can be changed; `count` is how many there are."""

    COMPARISONS = {
        ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
        ast.In: ast.NotIn, ast.NotIn: ast.In,
    }  # fmt: skip
    OPERATORS = {
        ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
        ast.Mod: ast.FloorDiv,
    }  # fmt: skip

    def __init__(self, number: int = -1):
        self.number = number
        self.count = 0

    def _chosen(self) -> bool:
        self.count += 1
        return self.count - 1 == self.number

    def visit_Compare(self, node):
        self.generic_visit(node)
        if type(node.ops[0]) in self.COMPARISONS and self._chosen():
            node.ops[0] = self.COMPARISONS[type(node.ops[0])]()
        return node

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if type(node.op) in self.OPERATORS and self._chosen():
            node.op = self.OPERATORS[type(node.op)]()
        return node

    def visit_BoolOp(self, node):
        self.generic_visit(node)
        if self._chosen():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return node

    def visit_UnaryOp(self, node):
        self.generic_visit(node)
        return node.operand if isinstance(node.op, ast.Not | ast.USub) and self._chosen() else node

    def visit_Call(self, node):
        self.generic_visit(node)
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        return node.args[0] if node.args and not starred and self._chosen() else node

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            return ast.Constant(not node.value) if self._chosen() else node
        if isinstance(node.value, int | float) and self._chosen():
            return ast.Constant(node.value + 1)
        return node

    def visit_Return(self, node):
        self.generic_visit(node)
        return ast.Return(ast.Constant(None)) if node.value is not None and self._chosen() else node


def mutants(program: str, count: int, seed: int = 0) -> list[str]:
    """Up to `count` different programs, each one change away from a Python program, in random order.

    Raises:
        SyntaxError: the program is not Python.
    """
    tree, counting = ast.parse(program), Mutation()
    counting.visit(copy.deepcopy(tree))
    found: list[str] = []
    for number in random.Random(seed).sample(range(counting.count), counting.count):
        changed = ast.unparse(ast.fix_missing_locations(Mutation(number).visit(copy.deepcopy(tree))))
        if changed not in found:
            found.append(changed)
    return found[:count]
