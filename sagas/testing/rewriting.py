"""Rewrites functions so that somebody else decides what they call, and in which order they see sets.

From their source, for the whole file at once, so that lines, closures and nested functions stay what they are.
"""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache
from types import CodeType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CALLED", "MADE", "READ", "rewritten"]

# Names of what decides; they end with underscores too, so that a class does not mangle them.
CALLED = "__sagas_called__"
MADE = "__sagas_made__"
READ = "__sagas_read__"

_OPERATORS = (ast.BitOr, ast.BitAnd, ast.BitXor, ast.Sub)
_SETS = ("set", "frozenset")
_FILES = 64


def rewritten(code: CodeType) -> CodeType | None:
    """Gives the code of a function, rewritten; ``None`` if its source cannot be found."""
    text = "".join(linecache.getlines(code.co_filename))
    other = _codes_of(code.co_filename, text).get((code.co_qualname, code.co_firstlineno))
    return other if other is not None and _fits(other, code) else None


def _fits(other: CodeType, code: CodeType) -> bool:
    """Says whether one can stand where the other does: the file may have been edited meanwhile."""
    count = code.co_argcount + code.co_kwonlyargcount
    return (other.co_freevars, other.co_flags, other.co_varnames[:count]) == (
        code.co_freevars, code.co_flags, code.co_varnames[:count],
    )  # fmt: skip


@lru_cache(maxsize=_FILES)
def _codes_of(file: str, text: str) -> dict[tuple[str, int], CodeType]:
    """Compiles a file, rewritten, and lists the code in it; none of which there are two of one name in a line."""
    if not text:
        return {}
    try:
        tree = _Rewriter().visit(ast.parse(text, file))
        module = compile(ast.fix_missing_locations(tree), file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    found: dict[tuple[str, int], CodeType] = {}
    double: set[tuple[str, int]] = set()
    for code in _walk(module):
        key = (code.co_qualname, code.co_firstlineno)
        if key in found:
            double.add(key)
        found[key] = code
    return {key: code for key, code in found.items() if key not in double}


def _walk(code: CodeType) -> Iterator[CodeType]:
    """Walks code, and what is defined in it."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _walk(constant)


class _Rewriter(ast.NodeTransformer):
    """Asks ``CALLED`` what to call, has ``MADE`` see every set that is made, and ``READ`` every environment."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Leaves hashes alone: whatever is in a dictionary already was found by them."""
        return node if node.name == "__hash__" else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Rewrites a call, and its arguments."""
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _SETS:
            return _wrapped(MADE, node)
        if name != "super":  # which has to be called by its own name
            node.func = _wrapped(CALLED, node.func)
        return node

    def visit_Set(self, node: ast.Set) -> ast.AST:
        """Rewrites a set display."""
        return _wrapped(MADE, self.generic_visit(node))

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        """Rewrites a set comprehension."""
        return _wrapped(MADE, self.generic_visit(node))

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Rewrites what may make a set of two."""
        self.generic_visit(node)
        return _wrapped(MADE, node) if isinstance(node.op, _OPERATORS) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Rewrites what may be ``os.environ``."""
        self.generic_visit(node)
        return _wrapped(READ, node) if node.attr == "environ" and isinstance(node.ctx, ast.Load) else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Rewrites what may be ``os.environ``."""
        return _wrapped(READ, node) if node.id == "environ" and isinstance(node.ctx, ast.Load) else node


def _wrapped(name: str, node: ast.AST) -> ast.expr:
    """Makes the call of a function with an expression, at the place of that expression."""
    assert isinstance(node, ast.expr), "only expressions are rewritten"
    return ast.copy_location(ast.Call(ast.copy_location(ast.Name(name, ast.Load()), node), [node], []), node)
