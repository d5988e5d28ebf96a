"""Checks whether code can go on with the open sagas of a journal, and tells what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from rich.text import Text

from sagas.cli.importing import find_codec, find_registry
from sagas.cli.problems import Problem, printable
from sagas.cli.reading import existing_store
from sagas.cli.rendering import print_json, show
from sagas.coordinator.gate import check_journal, grouped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sagas.coordinator.gate import Group, Report, Waiting

__all__ = ["check"]

_SOME = 5
_WHEN = {
    "code": "would wait for code",
    "journal": "cannot be read",
    "forward": "would not go on",
    "rollback": "could not be undone",
}


def check(places: Sequence[str], journal: str, codec: str | None, *, strict: bool, json: bool) -> int:
    """Checks code against a journal.

    Args:
        places: Where the code is, as ``find_registry`` takes them.
        journal: The URL of the journal.
        codec: Where the codec is, if there is one: ``module:name``.
        strict: Whether steps that are called with other arguments than those recorded count as findings.
        json: Whether to write JSON.

    Returns:
        The exit code: 1 if something was found, else 0.

    Raises:
        Problem: There is no such code or journal, or something is not named at all.
        SagaError: The code makes no sense, or the journal cannot be read.
    """
    if not places:
        raise Problem("which code? Name the modules with your sagas: sagas check shop.orders shop.returns --journal …")
    registry = find_registry(places)
    found_codec = None if codec is None else find_codec(codec)
    with existing_store(journal, "--journal") as store:

        async def run() -> Report:
            return await check_journal(store, registry, found_codec, strict=strict)

        report = anyio.run(run)
    if json:
        print_json(_as_json(report))
    else:
        show(*_lines(report))
    return 1 if report.findings else 0


def _as_json(report: Report) -> dict[str, object]:
    """Gives everything, by name."""
    return {
        "store": report.store,
        "checked": report.checked,
        "findings": [finding._asdict() for finding in report.findings],
        "groups": [
            {key: value for key, value in group.first._asdict().items() if key != "id"} | {"ids": group.ids}
            for group in report.groups
        ],
        "notes": [note._asdict() for note in report.notes],
        "waiting": [waiting._asdict() for waiting in report.waiting],
    }


def _lines(report: Report) -> Iterator[Text | str]:
    """Tells what was found: how many, then why, then what is no reason to wait."""
    total = sum(report.checked.values())
    bad = len({finding.id for finding in report.findings})
    what = f"{total} open saga{'' if total == 1 else 's'} in {report.store}"
    if not bad:
        yield Text(f"✓ {what}: all would go on with this code, or be undone by it", "green")
    else:
        yield Text(f"✗ {what}: {bad} would not go on with this code, or not be undone by it", "bold red")
    for group in report.groups:
        yield from _group(group, _WHEN[group.first.when], "red")
    for group in grouped(report.notes):
        yield from _group(group, "would go on, but", "yellow")
    yield from _waiting(report.waiting)


def _group(group: Group, what: str, style: str) -> Iterator[Text | str]:
    """Tells one reason, what to do about it, and whom it concerns."""
    first = group.first
    where = f" at operation {first.operation}" if first.operation else ""
    yield ""
    yield Text.assemble((f"{first.name} version {first.version}: {len(group.ids)} {what}{where}", style))
    yield f"  {printable(first.reason)}"
    yield Text.assemble("  ", (f"{printable(first.remedy)}.", "dim"))
    yield f"  {_some(group.ids)}"


def _waiting(waiting: Sequence[Waiting]) -> Iterator[Text | str]:
    """Tells which sagas wait for better code already, and whether this is it."""
    for mended, what in ((True, "can go on with this code: resume them"), (False, "still cannot go on with this code")):
        ids = [one.id for one in waiting if one.mended is mended]
        if ids:
            yield ""
            yield Text(f"{len(ids)} waiting for better code {what}", "green" if mended else "yellow")
            if not mended:
                for reason in dict.fromkeys(one.reason for one in waiting if not one.mended):
                    yield f"  {printable(reason)}"
            yield f"  {_some(ids)}"


def _some(ids: Sequence[str]) -> str:
    """Names a few sagas, and counts the rest; ``--json`` has all of them."""
    more = f" and {len(ids) - _SOME} more" if len(ids) > _SOME else ""
    return ", ".join(map(printable, ids[:_SOME])) + more
