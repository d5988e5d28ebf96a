"""How the examples of a page are run: its Python blocks in order, in one module, like a program.

- A block may ``await`` at its top level, as in ``python -m asyncio``: each such block has an event loop of its own.
- A block of the language ``output`` is what the blocks since the last one have printed, or after a ``…`` its end.
- ``<!-- skip: next "reason" -->`` leaves the next block to its own test.
"""

from __future__ import annotations

import ast
import inspect
import io
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from unittest import SkipTest

import anyio
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, SkipParser

__all__ = ["blocks", "run"]


class _Runner:
    """Runs the blocks of one page.

    Args:
        module: In which they run.
        backend: Of anyio, for blocks that await.
    """

    def __init__(self, module: ModuleType, backend: str) -> None:
        self._module = module
        self._backend = backend
        self._printed = io.StringIO()

    def python(self, example: Example) -> None:
        """Runs a block."""
        source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
        code = compile(source, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        namespace = vars(self._module)
        with redirect_stdout(self._printed):
            if code.co_flags & inspect.CO_COROUTINE:
                anyio.run(lambda: eval(code, namespace), backend=self._backend)  # noqa: S307 - our own pages
            else:
                exec(code, namespace)  # noqa: S102 - our own pages

    def output(self, example: Example) -> None:
        """Holds what was printed against what the page says."""
        printed, expected = self._printed.getvalue().strip(), str(example.parsed).strip()
        self._printed.seek(0)
        self._printed.truncate()
        if expected.startswith("…\n"):
            printed, expected = printed[-len(expected.removeprefix("…\n")) :], expected.removeprefix("…\n")
        if printed != expected:
            raise AssertionError(
                f"{example.path}:{example.line}: the page says\n{expected}\nbut this was printed\n{printed}"
            )


@contextmanager
def _module(name: str) -> Generator[ModuleType]:
    """Makes a module that dataclasses, pydantic and the journal can find by its name."""
    module = ModuleType(name)
    sys.modules[name] = module
    try:
        yield module
    finally:
        del sys.modules[name]


def blocks(page: Path, language: str) -> list[str]:
    """Gives the blocks of a page in a language."""
    parser = CodeBlockParser(language, evaluator=lambda _: None)
    return [str(example.parsed) for example in Document.parse(str(page), parser).examples()]


def run(page: Path, backend: str) -> list[str]:
    """Runs the examples of a page, in the current directory.

    Returns:
        Why blocks were left out.
    """
    skipped: list[str] = []
    with _module(f"page_{page.stem}".replace("-", "_")) as module:
        runner = _Runner(module, backend)
        document = Document.parse(
            str(page),
            CodeBlockParser("python", evaluator=runner.python),
            CodeBlockParser("output", evaluator=runner.output),
            SkipParser(),
        )
        for example in document.examples():
            try:
                example.evaluate()
            except SkipTest as reason:
                skipped.append(str(reason))
    return skipped
