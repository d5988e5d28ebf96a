"""Type checkers accept what is right, and find each of the mistakes that are marked.

``accepted.py`` may have no error. ``rejected.py`` must have one in each line with ``# error``, and no other.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

HERE = Path(__file__).parent
NAMES = ["accepted.py", "rejected.py"]
SEARCHED = (ROOT, ROOT / "adapters")
HIDDEN = re.compile(r"^# (mypy: ignore-errors|type: ignore)$", re.MULTILINE)


def _marked(name: str) -> list[int]:
    """Gives the lines of a file that have to be errors."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [number for number, line in enumerate(lines, 1) if "# error" in line]


def _run(arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Runs a checker on copies of the files, where no configuration but ours applies and nothing hides them."""
    for name in NAMES:
        (directory / name).write_text(HIDDEN.sub("#", (HERE / name).read_text(encoding="utf-8")), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=directory, capture_output=True, text=True, timeout=240, check=False
    )


def _mypy(directory: Path) -> set[tuple[str, int]]:
    """Gives where mypy finds errors, in its strict mode."""
    (directory / "mypy.ini").write_text(
        "[mypy]\nstrict = true\nexplicit_package_bases = true\nfollow_imports = silent\n"
        f"mypy_path = {':'.join(map(str, SEARCHED))}\n"
        "enable_error_code = deprecated, ignore-without-code, truthy-bool, unused-awaitable\n"
    )
    done = _run(["mypy", "--config-file", "mypy.ini", "--cache-dir", str(directory / "cache"), *NAMES], directory)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {(name, int(line)) for name, line in re.findall(r"^(\w+\.py):(\d+): error:", done.stdout, re.MULTILINE)}


def _pyright(directory: Path) -> set[tuple[str, int]]:
    """Gives where pyright finds errors, in its strict mode."""
    pytest.importorskip("pyright")
    if shutil.which("node") is None:
        pytest.skip("pyright needs Node.js")
    settings = {
        "include": NAMES,
        "extraPaths": [str(path) for path in SEARCHED],
        "typeCheckingMode": "strict",
        "reportUnusedVariable": "none",  # they are there for their types
    }
    (directory / "pyrightconfig.json").write_text(json.dumps(settings))
    done = _run(["pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(directory)], directory)
    if not done.stdout.lstrip().startswith("{"):
        pytest.skip(f"pyright does not run here: {(done.stderr or done.stdout)[-300:]}")
    found = [item for item in json.loads(done.stdout)["generalDiagnostics"] if item["severity"] == "error"]
    return {(Path(item["file"]).name, item["range"]["start"]["line"] + 1) for item in found}


@pytest.mark.parametrize("checker", [_mypy, _pyright], ids=["mypy", "pyright"])
def test_errors_are_where_they_are_marked(checker: Callable[[Path], set[tuple[str, int]]], tmp_path: Path) -> None:
    assert checker(tmp_path) == {(name, line) for name in NAMES for line in _marked(name)}


def test_there_are_mistakes_to_find() -> None:
    assert _marked("accepted.py") == []
    assert len(_marked("rejected.py")) > 20
