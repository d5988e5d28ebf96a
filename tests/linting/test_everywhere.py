"""No check fails on whatever code there is, and none finds anything where no saga is."""

from __future__ import annotations

import ast
import random
import sys
import sysconfig
import warnings
from pathlib import Path

import pytest

from sagas.linting import check
from tests.docs.pages import ROOT

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
SAMPLE = 300
CHUNKS = 10
DECLARED = "from sagas import saga as _saga, step as _step\n"


def _sample() -> list[Path]:
    files = sorted(path for path in LIBRARY.rglob("*.py") if not {"site-packages", "dist-packages"} & set(path.parts))
    return random.Random(20_261_123).sample(files, min(SAMPLE, len(files)))


class _Declare(ast.NodeTransformer):
    """Makes sagas and steps of all functions at module level, so that every check looks into them."""

    def __init__(self) -> None:
        self._count = 0
        self._last = ""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._declare(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._declare(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node

    def _declare(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self._count += 1
        choices = ["", "_saga", "_step(pivot=True)", "", "_step", f"{self._last or '_step'}.compensator", "_saga()"]
        chosen = choices[self._count % len(choices)]
        if chosen:
            node.decorator_list.insert(0, ast.parse(chosen, mode="eval").body)
        if chosen == "_step":
            self._last = node.name
        for call in ast.walk(node):
            if isinstance(call, ast.Expr) and isinstance(call.value, ast.Call):
                call.value = ast.Await(call.value)
        return node


def _declared(path: Path) -> str | None:
    """Gives a file of which everything is a saga or a step; it need not compile, only parse."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return None
    return DECLARED + ast.unparse(_Declare().visit(tree))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_check_fails_on_the_standard_library(chunk: int, tmp_path: Path) -> None:
    """As it is, where nothing is found, and half of it with its functions made sagas and steps, where much is."""
    files = _sample()[chunk::CHUNKS]
    plain = check([str(file) for file in files], roots=[])
    assert plain.files == len(files)
    assert {finding.rule for finding in plain.findings} <= {"syntax-error"}  # its own tests have files that are none
    for number, text in enumerate(filter(None, map(_declared, files[::2]))):
        (tmp_path / f"m{number}.py").write_text(text, encoding="utf-8", errors="surrogateescape")
    made = check([str(tmp_path)], roots=[])
    assert made.findings
    assert not any("too deeply" in finding.reason for finding in made.findings)


def test_deep_nesting_is_told_and_no_traceback(tmp_path: Path) -> None:
    deep = "-" * 150 + "x"
    chain = "x" + ".a" * (sys.getrecursionlimit() * 2)
    for name, expression in {"deep": deep, "chain": chain}.items():
        text = f"{DECLARED}@_saga\nasync def a(x: int) -> None:\n    await {expression}()\n"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    assert {finding.rule for finding in check([str(tmp_path)], roots=[tmp_path]).findings} <= {"syntax-error"}


def test_the_library_and_its_demo_are_clean() -> None:
    checked = check([str(ROOT / "sagas"), str(ROOT / "adapters"), str(ROOT / "benchmarks")])
    assert checked.findings == ()
    assert checked.files > 100
