# ruff: noqa: INP001 - a script beside the pages, in no package
"""Writes ``reference/rules.md`` from the table in ``sagas/linting/rules.py`` and the examples here.

Run ``python docs/make_rules.py`` after changing either. Tests hold the page against them, and check each example.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sagas.linting import RULES, Rule

__all__ = ["EXAMPLES", "PAGE", "PREAMBLE", "Example", "page"]

PAGE = Path(__file__).parent / "reference" / "rules.md"


class Example(NamedTuple):
    """What a rule finds, and what it does not."""

    wrong: str
    right: str


# What all examples share.
PREAMBLE = """\
import time
import uuid
from typing import TYPE_CHECKING

import anyio
import sagas
from sagas import Rejected, Retry, map_each, saga, step
from bank import bank


@step
async def charge(order: str) -> str:
    return await bank.charge(order)


@charge.compensator
async def refund(order: str) -> None:
    await bank.refund(order)


@step(pivot=True)
async def hand_over(order: str) -> None:
    await bank.hand_over(order)
"""


def _body(*lines: str) -> str:
    """Writes a saga."""
    return "\n".join(["@saga", "async def place(order: str) -> None:", *(f"    {line}" for line in lines)])


_PACK = "@step\nasync def pack(order: str) -> None:\n    await bank.pack(order)\n"
_UNPACK = "\n\n@pack.compensator\nasync def unpack(order: str) -> None:\n    await bank.unpack(order)\n"
_MAIL = "async def mail(order: str) -> None:\n    await bank.mail(order)\n\n\n"
_UNDO = "@step\nasync def pack(order: str) -> str: ...\n\n\n@pack.compensator\nasync def unpack("
_SUM = "seen = []\n\n\n"
_CATCHING = ("while True:", "    try:", "        return await charge(order)")

EXAMPLES = {
    "foreign-await": Example(_body("await anyio.sleep(60)"), _body("await sagas.sleep(60)")),
    "forgotten-await": Example(_body("charge(order)"), _body("await charge(order)")),
    "wall-clock": Example(_body("at = time.time()"), _body("at = await sagas.now()")),
    "randomness": Example(_body("key = uuid.uuid4()"), _body("key = await sagas.uuid4()")),
    "io-in-body": Example(
        _body('rates = open("rates").read()'), _body('rates = await sagas.record(lambda: open("rates").read())')
    ),
    "global-state": Example(
        f"{_SUM}{_body('seen.append(order)', 'await charge(order)')}",
        _body("seen = []", "seen.append(order)", "await charge(order)"),
    ),
    "unordered-iteration": Example(
        _body('await map_each(charge, {order, order + "-2"})'),
        _body('await map_each(charge, sorted({order, order + "-2"}))'),
    ),
    "swallowed-stop": Example(
        _body(*_CATCHING, "    except:", "        await sagas.sleep(60)"),
        _body(*_CATCHING, "    except Rejected:", "        await sagas.sleep(60)"),
    ),
    "step-in-body": Example(
        _body("@step", "async def pack() -> None:", "    await bank.pack(order)", "", "await pack()"),
        f"@step\nasync def pack(order: str) -> None:\n    await bank.pack(order)\n\n\n{_body('await pack(order)')}",
    ),
    "uncompensated-step": Example(
        f"{_PACK}\n\n{_body('await pack(order)', 'await charge(order)')}",
        f"{_PACK}{_UNPACK}\n\n{_body('await pack(order)', 'await charge(order)')}",
    ),
    "fallible-after-pivot": Example(
        f"@step\n{_MAIL}{_body('await hand_over(order)', 'await mail(order)')}",
        f"@step(retry=Retry(attempts=None))\n{_MAIL}{_body('await hand_over(order)', 'await mail(order)')}",
    ),
    "operation-in-step": Example(
        "@step\nasync def pay(order: str) -> None:\n    await charge(order)\n", _body("await charge(order)")
    ),
    "blocking-call": Example(
        "@step\nasync def wait(order: str) -> None:\n    time.sleep(1)\n",
        "@step\ndef wait(order: str) -> None:\n    time.sleep(1)\n",
    ),
    "mutable-default": Example(
        "@step\nasync def pack(order: str, extras: list[str] = []) -> None: ...\n",
        "@step\nasync def pack(order: str, extras: tuple[str, ...] = ()) -> None: ...\n",
    ),
    "undo-needs-result": Example(f"{_UNDO}result: str) -> None: ...\n", f"{_UNDO}result: str | None) -> None: ...\n"),
    "wrong-declaration": Example(f"{_UNDO}parcel: str) -> None: ...\n", f"{_UNDO}order: str) -> None: ...\n"),
    "unencodable-annotation": Example(
        "import socket\n\n\n@step\ndef pack(order: str, line: socket.socket) -> None: ...\n",
        "@step\ndef pack(order: str, host: str) -> None: ...\n",
    ),
    "type-checking-import": Example(
        'if TYPE_CHECKING:\n    from datetime import date\n\n\n@step\nasync def pack(day: "date") -> None: ...\n',
        'from datetime import date\n\n\n@step\nasync def pack(day: "date") -> None: ...\n',
    ),
    "syntax-error": Example("async def place(order: str -> None:\n", "async def place(order: str) -> None: ...\n"),
    "unused-ignore": Example(
        _body("await charge(order)  # sagas: ignore[wall-clock]"),
        _body("at = time.time()  # sagas: ignore[wall-clock]"),
    ),
}

_HEAD = """\
# Rules

What `sagas check` looks for. Generated from the table in `sagas/linting/rules.py` by `docs/make_rules.py`; \
`sagas check --rules` prints the same. [Find mistakes before you run](../how-to/check-statically.md) says how to use it.

A rule's name never changes. *Error* and *warning* are what most of its findings are: a step that visibly writes \
something makes `uncompensated-step` an error, \
a compensator or probe does so with `mutable-default`, and \
a step with several attempts makes `fallible-after-pivot` a warning.

"""


def _section(rule: Rule) -> str:
    """Writes what there is to say of a rule."""
    example = EXAMPLES[rule.id]
    return (
        f"## {rule.id}\n\n{rule.severity.value.capitalize()}. {rule.reason}\n\n```py\n{example.wrong.strip()}\n```\n\n"
        f"{rule.remedy}\n\n```py\n{example.right.strip()}\n```\n"
    )


def page() -> str:
    """Writes the whole page."""
    return _HEAD + "\n".join(_section(rule) for rule in RULES.values())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
