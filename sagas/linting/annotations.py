"""Checks the types of arguments and results: the journal has to hold them."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING

from sagas.linting.binding import parameters_of
from sagas.linting.findings import Kind
from sagas.linting.names import Place
from sagas.linting.scopes import Assigned, Imported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.linting.context import Context
    from sagas.linting.declarations import Declared
    from sagas.linting.scopes import Scope

__all__ = ["check_annotations", "check_undo_result"]

_UNENCODABLE = frozenset(
    f"{module}.{name}"
    for module, names in {
        "asyncio": "AbstractEventLoop Condition Event Future Lock Queue Semaphore Task",
        "anyio": "CapacityLimiter Condition Event Lock Semaphore",
        "builtins": "BaseException Exception memoryview range slice type",
        "collections.abc": "AsyncGenerator AsyncIterable AsyncIterator Awaitable Callable Coroutine Iterator",
        "concurrent.futures": "Executor Future ProcessPoolExecutor ThreadPoolExecutor",
        "contextvars": "Context ContextVar",
        "httpx": "AsyncClient Client Request Response",
        "aiohttp": "ClientResponse ClientSession",
        "io": "BufferedReader BufferedWriter BytesIO IOBase StringIO TextIOWrapper",
        "logging": "Logger LoggerAdapter",
        "multiprocessing": "Process Queue",
        "psycopg": "AsyncConnection Connection Cursor",
        "queue": "Queue",
        "requests": "Request Response Session",
        "sagas": "Client Coordinator",
        "socket": "socket",
        "sqlalchemy": "Connection Engine",
        "sqlalchemy.engine": "Connection Engine",
        "sqlalchemy.ext.asyncio": "AsyncConnection AsyncEngine AsyncSession",
        "sqlalchemy.orm": "Session scoped_session sessionmaker",
        "sqlite3": "Connection Cursor",
        "sqlmodel": "Session",
        "subprocess": "Popen",
        "threading": "Condition Event Lock RLock Semaphore Thread",
        "types": "FunctionType ModuleType TracebackType",
        "typing": "AsyncGenerator AsyncIterable AsyncIterator Awaitable BinaryIO Callable Coroutine IO "
        "Iterator TextIO Type",
        "weakref": "ReferenceType ref",
    }.items()
    for name in names.split()
)
_SCHEMA = frozenset({"__get_pydantic_core_schema__", "__pydantic_core_schema__"})
_DEEPEST = 10


def check_annotations(declared: Declared, context: Context) -> None:
    """Checks the types of a declaration's arguments and result."""
    for annotation in _annotations(declared):
        _check_importable(annotation, declared, context)
    if declared.kind in (Kind.STEP, Kind.SAGA):
        skipped = 1 if declared.is_set("transactional") else 0
        for annotation in _annotations(declared, skipped):
            name = _unencodable(annotation, declared.scope, context)
            if name:
                context.report(
                    "unencodable-annotation",
                    declared.scope,
                    annotation,
                    f"{declared.where} takes or gives the type {name}, which cannot be written to the journal",
                )


def _annotations(declared: Declared, skipped: int = 0) -> Iterator[ast.expr]:
    """Lists the annotations of a function, without those of its first parameters."""
    for parameter in parameters_of(declared.node)[skipped:]:
        if parameter.annotation is not None:
            yield parameter.annotation
    if declared.node.returns is not None:
        yield declared.node.returns


def _unquoted(annotation: ast.expr) -> ast.expr:
    """Parses an annotation that is written as a text."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            return ast.copy_location(ast.parse(annotation.value.strip(), mode="eval").body, annotation)
        except (SyntaxError, ValueError):
            return annotation
    return annotation


def _check_importable(annotation: ast.expr, declared: Declared, context: Context) -> None:
    """Finds types that are imported for type checkers only."""
    for node in ast.walk(_unquoted(annotation)):
        if isinstance(node, ast.Name):
            found = declared.scope.lookup(node.id)
            if found is not None and isinstance(found[0], Imported) and found[0].typing_only:
                context.report(
                    "type-checking-import",
                    declared.scope,
                    annotation,
                    f"{declared.where} has the type {node.id}, which is imported for type checkers only, but the "
                    "journal needs it at run time",
                )


def _unencodable(annotation: ast.expr, scope: Scope, context: Context, depth: int = 0) -> str:
    """Names the part of a type that cannot be written, or gives ``""``."""
    annotation = _unquoted(annotation)
    if depth > _DEEPEST:
        return ""
    match annotation:
        case ast.BinOp(left=left, right=right):
            parts = [left, right]
        case ast.Subscript(value=value, slice=inner):
            name = context.dotted(value, scope)
            if name.endswith((".Annotated", ".Literal")):
                return ""
            parts = [value, *(inner.elts if isinstance(inner, ast.Tuple) else [inner])]
        case ast.Name() | ast.Attribute():
            return _unencodable_name(annotation, scope, context, depth)
        case _:
            return ""
    return next(filter(None, (_unencodable(part, scope, context, depth + 1) for part in parts)), "")


def _unencodable_name(kind: ast.expr, scope: Scope, context: Context, depth: int) -> str:
    """Names a class that cannot be written, or gives ``""``."""
    meaning = context.names.meaning(kind, scope)
    if isinstance(meaning, str):
        return ast.unparse(kind) if meaning in _UNENCODABLE else ""
    if isinstance(meaning, Place) and isinstance(meaning.node, ast.ClassDef):
        return meaning.node.name if _is_plain_class(meaning.node, meaning.scope, context, depth) else ""
    if isinstance(kind, ast.Name):
        found = scope.lookup(kind.id)
        if found is not None and isinstance(found[0], Assigned):
            return _unencodable(found[0].value, found[1], context, depth + 1)
    return ""


def _is_plain_class(node: ast.ClassDef, scope: Scope, context: Context, depth: int) -> bool:
    """Says whether pydantic finds nothing in a class by which to write it: no base, decorator or schema tells how."""
    if node.decorator_list or node.keywords or depth > _DEEPEST or getattr(node, "type_params", []):
        return False
    if any(name in _SCHEMA for name in _defined_in(node)):
        return False
    for base in node.bases:
        meaning = context.names.meaning(base, scope)
        if isinstance(meaning, Place) and isinstance(meaning.node, ast.ClassDef):
            if not _is_plain_class(meaning.node, meaning.scope, context, depth + 1):
                return False
        elif meaning != "builtins.object" and meaning not in _UNENCODABLE:
            return False
    return True


def _defined_in(node: ast.ClassDef) -> Iterator[str]:
    """Lists the methods of a class."""
    yield from (item.name for item in node.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)))


def check_undo_result(undo: Declared, context: Context) -> None:
    """Makes sure that a step in doubt, which has no result, can be undone."""
    step = undo.of
    if undo.kind is not Kind.COMPENSATOR or step is None or step.is_set("transactional"):
        return
    if "result" in (parameter.arg for parameter in parameters_of(step.node)):
        return
    for parameter in parameters_of(undo.node):
        kind = parameter.annotation
        if parameter.arg == "result" and kind is not None and not _allows_none(kind, undo.scope, context):
            context.report(
                "undo-needs-result",
                undo.scope,
                parameter,
                f"in {undo.where} of {step.where}, `result: {ast.unparse(_unquoted(kind))}` cannot be None, but the "
                "step can end in doubt (a timeout, a crash), and is then undone without a result",
                remedy=f"Annotate `result: {ast.unparse(_unquoted(kind))} | None` and handle None.",
            )


def _allows_none(kind: ast.expr, scope: Scope, context: Context, depth: int = 0) -> bool:
    """Says whether a type admits ``None``, or may, as far as can be told."""
    match _unquoted(kind):
        case ast.BinOp(left=left, right=right):
            return any(_allows_none(part, scope, context, depth) for part in (left, right))
        case ast.Subscript(value=value):
            return not _is_container(context.dotted(value, scope))
        case ast.Name(id=name) if depth < _DEEPEST and _alias(name, scope) is not None:
            found = _alias(name, scope)
            return found is None or _allows_none(*found, context, depth + 1)
        case ast.Name() | ast.Attribute() as name:
            return _name_allows_none(name, scope, context)
        case _:
            return True


def _alias(name: str, scope: Scope) -> tuple[ast.expr, Scope] | None:
    """Gives what a name for a type stands for."""
    found = scope.lookup(name)
    return (found[0].value, found[1]) if found is not None and isinstance(found[0], Assigned) else None


def _is_container(dotted: str) -> bool:
    """Recognizes generic types that are no union."""
    name = dotted.rpartition(".")[2]
    return dotted.startswith(("builtins.", "collections.")) or (
        dotted.startswith("typing.") and name in ("Dict", "FrozenSet", "List", "Mapping", "Sequence", "Set", "Tuple")
    )


def _name_allows_none(kind: ast.expr, scope: Scope, context: Context) -> bool:
    """Says whether a plain name of a type admits ``None``; one that cannot be told may."""
    meaning = context.names.meaning(kind, scope)
    if isinstance(meaning, Place):
        return not isinstance(meaning.node, ast.ClassDef)
    if meaning is None or meaning in ("builtins.object", "types.NoneType"):
        return True
    library = meaning.partition(".")[0]
    return library in ("typing", "typing_extensions") or (
        library != "builtins" and library not in sys.stdlib_module_names
    )
