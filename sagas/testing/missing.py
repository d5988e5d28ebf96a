"""Says why planned faults never happened: which places there were, and what could have gone wrong there."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sagas.testing.faults import Fault
    from sagas.testing.runs import Run

__all__ = ["A_PLANNED_FAULT_HAPPENS", "never_happened"]

A_PLANNED_FAULT_HAPPENS = "a planned fault happens"


def never_happened(run: Run) -> str:
    """Says which faults of a run never happened, why, and where there could have been others."""
    places: dict[str, int] = {}
    kinds: dict[str, dict[str, None]] = {}
    for place in run.opportunities:
        places[place.at] = max(places.get(place.at, 0), place.nth)
        kinds.setdefault(place.at, {}).update(dict.fromkeys(place.options))
    came_by = ", ".join(at if nth == 1 else f"{at} ({nth} times)" for at, nth in places.items())
    never = [f"  {fault!r} never happened: {_why(fault, run, places, kinds)}" for fault in run.missed]
    lines = [f"saga {run.scenario.call.saga.name}: {A_PLANNED_FAULT_HAPPENS} — is broken", "", *never, ""]
    return "\n".join([*lines, f"  this run came by: {came_by or 'nothing'}"])


def _why(fault: Fault, run: Run, places: dict[str, int], kinds: dict[str, dict[str, None]]) -> str:
    """Says why a fault did not happen."""
    if fault.at in places:
        if fault.what not in kinds[fault.at]:
            return f"at {fault.at} there can be only: {', '.join(kinds[fault.at])}"
        times = places[fault.at]
        if fault.nth > times:
            return f"the run came by {fault.at} {'only once' if times == 1 else f'only {times} times'}"
        return f"{fault.what} cannot happen at visit {fault.nth} of {fault.at}, after what had gone wrong before"
    known = _all_places(run)
    if fault.at in known:
        return f"the run did not come by {fault.at}; have something fail after which it would"
    close = get_close_matches(fault.at, known, n=1)
    return f"there is no place {fault.at!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def _all_places(run: Run) -> list[str]:
    """Lists every place of the code that a run began with, and those that it came by."""
    found = dict.fromkeys(["start", "commit", *(x.at for x in run.opportunities)])
    for name, step in run.steps.items():
        found[name] = None
        if step.undo is not None:
            found[f"undo of {name}"] = None
        if step.query is not None:
            found[f"probe of {name}"] = None
    return list(found)
