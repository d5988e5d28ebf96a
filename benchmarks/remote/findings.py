"""What the part ``remote`` says beside its targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.remote.model import Barrier, Remote, System

if TYPE_CHECKING:
    from benchmarks.model import Finding

__all__ = ["remote_findings"]

_OF_BARE, _WITH_INBOX = 0.5, 0.75


def remote_findings(remote: Sequence[Remote], barrier: Sequence[Barrier]) -> Iterator[Finding]:
    """Gives the ratios within a round, to the bare loops and to the worker without an inbox."""
    for way, clients in dict.fromkeys((each.way, each.concurrency) for each in remote):
        found = {(x.system, x.round): x.per_second for x in remote if (x.way, x.concurrency) == (way, clients)}
        for ours in (System.PLAIN, System.WRITTEN):
            for bare in (System.BARE, System.GROUPED):
                ratios = [
                    rate / found[bare, number]
                    for (system, number), rate in found.items()
                    if system is ours and (bare, number) in found
                ]
                target = _OF_BARE if bare is System.BARE else None
                yield from _finding(f"{way} at {clients}: {ours} ÷ {bare}", ratios, target)
    for step, clients in dict.fromkeys((each.step, each.concurrency) for each in barrier):
        ratios = [x.with_inbox / x.without for x in barrier if (x.step, x.concurrency) == (step, clients)]
        yield from _finding(f"{step} steps/s at {clients} with the inbox ÷ without", ratios, _WITH_INBOX)


def _finding(what: str, ratios: Sequence[float], target: float | None) -> Iterator[Finding]:
    """Puts a finding together, if anything was found."""
    from benchmarks.model import Finding

    if ratios:
        yield Finding(
            what=what, value=median(ratios), low=min(ratios), high=max(ratios), unit="%", target=target
        )  # fmt: skip
