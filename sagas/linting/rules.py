"""The table of all rules. The reference page and the SARIF report are made from it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["RULES", "Rule", "Severity"]


class Severity(Enum):
    """How much a finding weighs. Errors fail a check, warnings only a strict one."""

    ERROR = "error"
    WARNING = "warning"

    def __lt__(self, other: Severity) -> bool:
        return self.value < other.value


class Rule(NamedTuple):
    """A rule.

    Attributes:
        id: What people call it, and switch it off by. Never changes.
        severity: Of most of its findings.
        reason: What is wrong, in a sentence.
        remedy: What to do, in a sentence.
    """

    id: str
    severity: Severity
    reason: str
    remedy: str


_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

_ALL = (
    # Bodies
    Rule(
        "foreign-await",
        _ERROR,
        "A body awaits something that is no step, saga or operation of this library: there is no event loop while a "
        "body runs, so it raises DeterminismError.",
        "Do it in a step and await that; pause with `sagas.sleep`, run side by side with `sagas.gather`.",
    ),
    Rule(
        "forgotten-await",
        _ERROR,
        "A step, saga or operation is called and not awaited: nothing happens, and nobody says so.",
        "Write `await` before the call.",
    ),
    Rule(
        "wall-clock",
        _ERROR,
        "A body reads the clock, which tells another time when the body is replayed after a crash.",
        "Take the time from `await sagas.now()`, or read the clock in a step or in `sagas.record`.",
    ),
    Rule(
        "randomness",
        _ERROR,
        "A body takes a random value, which is another one when the body is replayed after a crash.",
        "Use `await sagas.random()` or `await sagas.uuid4()`, or draw it in a step or in `sagas.record`.",
    ),
    Rule(
        "io-in-body",
        _ERROR,
        "A body reads or writes something outside the saga, which is done again, and may differ, on every replay.",
        "Do it in a step; a cheap read without effect may be in `sagas.record`.",
    ),
    Rule(
        "global-state",
        _ERROR,
        "A body changes a variable of its module, which a replay changes again, and other sagas see.",
        "Keep what belongs to one saga in local variables, and change what is shared in a step.",
    ),
    Rule(
        "unordered-iteration",
        _ERROR,
        "A body goes through a set in the order of its hashes, which is another one in every process.",
        "Sort it first, `for item in sorted(items)`, or use a list or a dict.",
    ),
    Rule(
        "swallowed-stop",
        _ERROR,
        "A body catches BaseException and goes on: that also catches the end of a branch that was stopped, by a lost "
        "race or a cancel.",
        "Catch `Exception`, which has every failure of a step, or end the handler with `raise`.",
    ),
    Rule(
        "step-in-body",
        _ERROR,
        "A step is declared inside a body: a rollback by the journal alone finds steps by their names in the module, "
        "and what the step takes from around it is in no journal.",
        "Declare it at module level, and hand it what it needs as arguments.",
    ),
    # The order of steps
    Rule(
        "uncompensated-step",
        _WARNING,
        "A step that may act has no compensator, and something after it can fail: what it did then stays done.",
        "Declare its compensator, or move it behind what can fail; if it leaves nothing to undo, write "
        "`# sagas: ignore[uncompensated-step]` on its first line.",
    ),
    Rule(
        "fallible-after-pivot",
        _ERROR,
        "After a pivot a saga can only go forward, so whatever fails there leaves it stuck until somebody acts.",
        "Give the step `retry=Retry(attempts=None)`, catch what it may reject, or do it before the pivot.",
    ),
    # Steps
    Rule(
        "operation-in-step",
        _ERROR,
        "A step, compensator or probe awaits a step, saga or operation: a step in it runs as a plain function, under "
        "the idempotency key of the outer one, and is never undone; anything else raises OutsideSaga.",
        "Await it in the saga's body, or share a plain function.",
    ),
    Rule(
        "blocking-call",
        _ERROR,
        "A blocking call in an `async def` step, or in a body, halts every saga of the process until it returns.",
        "Make the step `def`, which runs in a thread, or await an asynchronous function; in a body use `sagas.sleep`.",
    ),
    Rule(
        "mutable-default",
        _WARNING,
        "A default that can be changed is one object, which all calls share that do not come from the journal: those "
        "of compensators and probes, of unit tests, and of sagas that are older than the parameter.",
        "Default to `None`, `()` or another constant, and make the list, dict or set inside.",
    ),
    # Declarations
    Rule(
        "undo-needs-result",
        _ERROR,
        "A compensator's `result` cannot be None, but a step in doubt is undone without a result: the import fails "
        "with DeclarationError.",
        "Annotate `result: … | None` and handle None.",
    ),
    Rule(
        "wrong-declaration",
        _ERROR,
        "A declaration makes no sense: the import fails with DeclarationError.",
        "See the reference of declarations.",
    ),
    Rule(
        "unencodable-annotation",
        _ERROR,
        "An argument or a result has a type that cannot be written to the journal.",
        "Hand over data (an id, a dataclass, a model), and open connections, files and locks inside the step.",
    ),
    Rule(
        "type-checking-import",
        _ERROR,
        "The type of an argument or result is imported for type checkers only, but the journal needs it at run time: "
        "the saga is refused with DeclarationError.",
        "Import it at module level, outside of `if TYPE_CHECKING:`.",
    ),
    # Files
    Rule(
        "syntax-error",
        _ERROR,
        "The file cannot be read as Python, so nothing in it was checked.",
        "Mend it, or check it with the Python that it is written for.",
    ),
    Rule(
        "unused-ignore",
        _WARNING,
        "A comment `# sagas: ignore` silences nothing: there is no such finding, or no such rule.",
        "Remove it, or name the rule that it is for.",
    ),
)

RULES = {rule.id: rule for rule in _ALL}
