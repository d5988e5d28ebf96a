# ruff: noqa: INP001 - a script beside the pages, in no package
"""Draws the state diagrams of ``reference/states.md`` from the tables in ``sagas/core/transitions.py``.

Run ``python docs/make_diagrams.py`` after changing those tables; a test holds the page against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

from sagas.core.transitions import SAGA, STEP, SagaState, StepState

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).parent / "reference" / "states.md"

_HEAD = (
    "# States\n\n"
    "Generated from the tables in `sagas/core/transitions.py` by `docs/make_diagrams.py`. Nothing else changes a "
    "state. An event that the tables do not allow raises `IllegalTransition` and changes nothing.\n\n"
)
_SAGA = (
    "## Of a saga\n\n{diagram}\n\n"
    "What users see (`SagaSummary.status`, `list(status=…)`) is coarser:\n\n{statuses}\n\n"
    "`completed` and `compensated` are final.\n\n"
)
_STEP = (
    "## Of a step\n\n{diagram}\n\n"
    "`undone`, `undo skipped`, `rejected` and, where no rollback comes, `succeeded` and `in doubt` are final. A "
    "rollback moves only steps that have a compensator and do not stand before a pivot that succeeded.\n"
)

S = TypeVar("S", bound=Enum)
T = TypeVar("T", bound=Enum)


def _identifier(state: Enum) -> str:
    """Names a state so that mermaid takes it for one word."""
    return state.name.lower()


def _diagram(table: Mapping[tuple[S, T], S], first: S, last: list[S]) -> str:
    """Draws a table."""
    states = list(dict.fromkeys(state for (source, _), target in table.items() for state in (source, target)))
    lines = [f'    state "{state.value}" as {_identifier(state)}' for state in states]
    lines.append(f"    [*] --> {_identifier(first)}")
    lines += [
        f"    {_identifier(source)} --> {_identifier(target)}: {trigger.value}"
        for (source, trigger), target in table.items()
    ]
    lines += [f"    {_identifier(state)} --> [*]" for state in last]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def _statuses() -> str:
    """Writes which states share a status."""
    by_status: dict[str, list[str]] = {}
    for state in SagaState:
        by_status.setdefault(state.status, []).append(state.value)
    rows = [f"| `{status}` | {'; '.join(states)} |" for status, states in by_status.items()]
    return "\n".join(["| Status | States |", "|---|---|", *rows])


def page() -> str:
    """Writes the whole page."""
    saga = _diagram(SAGA, SagaState.RUNNING, [state for state in SagaState if state.ended])
    leaves = {source for source, _ in STEP}
    step = _diagram(STEP, StepState.SCHEDULED, [state for state in StepState if state not in leaves])
    return _HEAD + _SAGA.format(diagram=saga, statuses=_statuses()) + _STEP.format(diagram=step)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
