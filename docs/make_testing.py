# ruff: noqa: INP001 - a script beside the pages, in no package
"""Writes the tables of faults and laws in ``docs/reference/testing.md``."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from sagas.testing.faults import KINDS
from sagas.testing.laws import LAWS

PAGE = Path(__file__).parent / "reference" / "testing.md"


def tables() -> dict[str, str]:
    """Writes the rows of both tables."""
    laws: list[str] = []
    for law, check in LAWS.items():
        said = " ".join((inspect.getdoc(check) or "").split())
        laws.append(f"| {law} | {re.sub(r'^[0-9, ]+: ', '', said).rstrip('.')} |")
    return {"Faults": "\n".join(f"| `{kind}` | {said} |" for kind, said in KINDS.items()), "Laws": "\n".join(laws)}


def written(page: str) -> str:
    """Puts the rows into the page: after the head of the table, up to the first row that is not generated."""
    for title, rows in tables().items():
        head = re.search(rf"## {title}\n.*?\n\|---\|---\|\n", page, flags=re.DOTALL)
        assert head is not None, f"{PAGE} has a table under {title}"
        rest = page[head.end() :]
        ends = rest.find("| it terminates") if title == "Laws" else rest.find("\n\n")
        page = page[: head.end()] + rows + ("\n" if title == "Laws" else "") + rest[ends:]
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
