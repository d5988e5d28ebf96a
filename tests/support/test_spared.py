"""What CI spares is still there: a name that no test has any more would hide that its like is not tried either."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import LIKE_OTHERS, LONG

_TESTS = Path(__file__).parents[1]


def test_whatever_is_spared_exists() -> None:
    texts = "\n".join(path.read_text() for path in _TESTS.rglob("test_*.py"))
    functions = {f"def {name.partition('[')[0]}(" for name in LONG}
    classes = {f"class {name}(" for name in LIKE_OTHERS}
    assert {found for found in functions | classes if found not in texts} == set()
