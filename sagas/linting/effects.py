"""What can be seen of a step in its text: whether it acts, only reads, can fail, or can reject."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from sagas.linting.findings import Kind
from sagas.linting.scopes import own_nodes
from sagas.linting.state import changed_globals

if TYPE_CHECKING:
    from sagas.linting.context import Context
    from sagas.linting.declarations import Declared

__all__ = ["Effects"]

_READING = re.compile(
    r"^_*(calculate|check|compare|compute|count|decide|describe|estimate|fetch|find|get|has|is|list|load|look_?up|look"
    r"|peek|poll|price|query|quote|read|search|select|show|validate|verify|view)(_|$)"
)
_WRITING_SQL = re.compile(r"\s*(insert|update|delete|replace|merge|truncate)\b", re.IGNORECASE)
_WRITING_CALLS = frozenset({"commit", "delete", "patch", "post", "publish", "put", "write_bytes", "write_text"})
# Calls of these do not fail for reasons that lie outside.
_HARMLESS = frozenset(
    f"builtins.{name}"
    for name in (
        "bool", "dict", "enumerate", "float", "frozenset", "int", "isinstance", "len", "list", "max", "min", "print",
        "range", "repr", "round", "set", "sorted", "str", "sum", "tuple", "zip",
    )
)  # fmt: skip
_HARMLESS_METHODS = frozenset(
    {
        "add", "append", "clear", "copy", "count", "debug", "discard", "extend", "format", "get", "info", "insert",
        "items", "join", "keys", "lower", "pop", "setdefault", "split", "strip", "update", "upper", "values", "warning",
    }
)  # fmt: skip


class Effects:
    """Tells what can be seen of steps. What cannot be seen is taken to be harmless, so that no alarm is false."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def is_stub(self, step: Declared) -> bool:
        """Says whether a step does nothing yet: its body is ``...``, say, or raises ``NotImplementedError``."""
        return all(_says_nothing(statement) for statement in step.node.body)

    def acts(self, step: Declared) -> bool:
        """Says whether a step visibly writes something."""
        nodes = tuple(own_nodes(step.node))
        changed = next(changed_globals(nodes, step.inner, self._context), None)
        return changed is not None or any(map(_writes, nodes))

    def may_act(self, step: Declared) -> bool:
        """Says whether a step may write something: it calls something, and does not say that it reads."""
        if self.acts(step):
            return True
        return not _READING.match(step.name) and self._calls_out(step)

    def can_fail(self, step: Declared) -> bool:
        """Says whether a step may visibly fail: it raises, or calls something that might."""
        if step.options.keys() & {"rejects", "timeout", "total_timeout", "heartbeat"}:
            return True
        raises = any(isinstance(node, ast.Raise) for node in own_nodes(step.node))
        return (raises and not self.is_stub(step)) or self._calls_out(step)

    def can_reject(self, step: Declared) -> bool:
        """Says whether a step may visibly raise ``Rejected``, or what it declares by ``rejects=``."""
        rejects = step.options.get("rejects")
        if rejects is not None and not (isinstance(rejects, (ast.Tuple, ast.List)) and not rejects.elts):
            return True
        raised = (node.exc for node in own_nodes(step.node) if isinstance(node, ast.Raise) and node.exc is not None)
        kinds = (exc.func if isinstance(exc, ast.Call) else exc for exc in raised)
        return any(self._context.is_class(kind, step.inner, "sagas.Rejected") for kind in kinds)

    def has_undo(self, step: Declared) -> bool:
        """Says whether a step has a compensator."""
        return bool(self._context.declarations.attached(step, Kind.COMPENSATOR))

    def _calls_out(self, step: Declared) -> bool:
        """Says whether a step calls what may reach outside."""
        return any(
            isinstance(node, ast.Await) or (isinstance(node, ast.Call) and not self._is_harmless(node, step))
            for node in own_nodes(step.node)
        )

    def _is_harmless(self, call: ast.Call, step: Declared) -> bool:
        """Says whether a call only computes, by what it is called."""
        name = self._context.dotted(call.func, step.inner)
        if name in _HARMLESS or name.startswith(("logging.", "sagas.current_step")):
            return True
        if isinstance(call.func, ast.Attribute):
            return call.func.attr in _HARMLESS_METHODS and not name
        # Making a value or an exception is no effect, and by convention a class begins with a capital.
        return isinstance(call.func, ast.Name) and call.func.id.lstrip("_")[:1].isupper()


def _says_nothing(statement: ast.stmt) -> bool:
    """Recognizes a docstring, ``...``, ``pass`` and ``raise NotImplementedError``."""
    if isinstance(statement, ast.Raise):
        exc = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(exc, ast.Name) and exc.id == "NotImplementedError"
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _writes(node: ast.AST) -> bool:
    """Recognizes statements that write to a database, and calls that write to a service."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _WRITING_SQL.match(node.value) is not None and " " in node.value.strip()
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _WRITING_CALLS
