"""Reads a file of Python, without running anything of it."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Source", "Unreadable", "read_source"]


class Unreadable(Exception):  # noqa: N818 - reads as one where it is raised
    """A file that is no Python.

    Attributes:
        source: The file, without its tree.
        line: Where it ends to be Python, from 1.
        column: The same, from 1.
        reason: Why.
    """

    def __init__(self, source: Source, line: int, column: int, reason: str) -> None:
        super().__init__(reason)
        self.source = source
        self.line = line
        self.column = column
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A file.

    Attributes:
        path: Where it is.
        shown: The same for people: relative to the current directory, with slashes.
        text: What is in it.
        tree: The same, parsed.
        lines: The same as UTF-8, line by line, which is what columns of the tree count in.
    """

    path: Path
    shown: str
    text: str
    tree: ast.Module
    lines: tuple[bytes, ...]

    def span(self, node: ast.AST) -> tuple[int, int, int, int]:
        """Says where something begins and ends: line and column, from 1, the end exclusive."""
        start, end = _position(node)
        line, column = self._column(*start)
        end_line, end_column = self._column(*end)
        return line, column, end_line, end_column

    def _column(self, line: int, offset: int) -> tuple[int, int]:
        """Turns an offset in bytes into a column in characters."""
        if not 0 < line <= len(self.lines):
            return line, offset + 1
        return line, len(self.lines[line - 1][:offset].decode("utf-8", "replace")) + 1


def _position(node: ast.AST) -> tuple[tuple[int, int], tuple[int, int]]:
    """Gives where to point to: of a definition, only its first line counts."""
    line, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return (line, offset), (line, offset + len("def ") + len(node.name))
    end_line, end_offset = getattr(node, "end_lineno", None), getattr(node, "end_col_offset", None)
    return (line, offset), (end_line or line, offset if end_offset is None else end_offset)


def read_source(path: Path, shown: str) -> Source:
    """Reads and parses a file.

    Raises:
        Unreadable: It is no Python.
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    blank = Source(path, shown, "", ast.Module([], []), ())
    try:
        text = _decode(data)
        tree = _parse(text)
    except SyntaxError as error:
        raise Unreadable(blank, error.lineno or 1, error.offset or 1, error.msg) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(blank, 1, 1, str(error) or "it is nested too deeply") from error
    return Source(path, shown, text, tree, tuple(text.encode("utf-8", "replace").splitlines()))


def _decode(data: bytes) -> str:
    """Decodes a file by its own declaration, with line ends as Python has them."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.IncrementalNewlineDecoder(None, translate=True).decode(data.decode(encoding), final=True)


def _parse(text: str) -> ast.Module:
    """Parses a text; what Python only warns of is no concern here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)
