"""A record is read back as it was written; anything else is refused."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.records import chain, decode, encode
from sagas.errors import PayloadError

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_PATH = st.sampled_from(["1", "2:0.1", "3.4"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT, lambda x: st.lists(x) | st.dictionaries(_TEXT, x), max_leaves=4
).map(to_json)  # fmt: skip
_FIELDS = st.none() | st.fixed_dictionaries({"args": st.lists(_TEXT)}).map(orjson.dumps)
_ERROR = st.builds(e.ErrorInfo, _TEXT, _TEXT, _FIELDS, _TEXT)
_SECONDS = st.floats(0, 1e12)
_ATTEMPTS = st.lists(st.builds(e.Attempt, _SECONDS, _SECONDS, st.none() | _TEXT, _TEXT), max_size=3).map(tuple)
_FIELDS_BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "path": _PATH, "result": _JSON, "input": _JSON, "payload": _JSON, "error": _ERROR, "attempts": _ATTEMPTS,
    "tried": st.integers(0, 99), "until": _SECONDS, "doubt": st.booleans(), "trace": _TEXT, "parent": st.just(""),
}  # fmt: skip


def events() -> st.SearchStrategy[e.Event]:
    """Draws any event, by its fields."""
    kinds: tuple[type[e.Event], ...] = get_args(e.Event)
    return st.sampled_from(kinds).flatmap(_one)


def _one(kind: type[e.Event]) -> st.SearchStrategy[e.Event]:
    return st.builds(kind, **{f.name: _FIELDS_BY_NAME.get(f.name, _TEXT) for f in dataclasses.fields(kind)})


_COMMANDS: st.SearchStrategy[c.Command] = st.one_of(
    st.builds(c.RunStep, _PATH, _TEXT, st.none(), _JSON, st.just(0.0), pivot=st.booleans(), undoable=st.booleans()),
    st.builds(c.RunUndo, _PATH, _TEXT, st.none(), st.just(b""), st.none()),
    st.builds(c.StartTimer, _PATH, _SECONDS),
    st.builds(c.MarkVersion, _TEXT),
    st.builds(c.Complete, _JSON),
    st.builds(c.Complete, st.none(), st.none() | _ERROR),
    st.builds(c.Halt, _PATH, _ERROR),
)


_AWAITS = st.none() | st.dictionaries(_PATH, st.tuples(_TEXT, _TEXT), max_size=2)


@given(event=events(), commands=st.lists(_COMMANDS, max_size=3), at=_SECONDS, awaits=_AWAITS)
def test_any_event_with_any_commands_comes_back(
    event: e.Event, commands: list[c.Command], at: float, awaits: dict[str, tuple[str, str]] | None
) -> None:
    """Through bytes, with the signals that are waited for from then on."""
    record = decode(7, at, *encode(event, commands, awaits))
    assert (record.seq, record.at, record.event, record.awaits) == (7, at, event, awaits)
    assert record.commands == tuple(commands)


@given(event=events(), commands=st.lists(_COMMANDS, max_size=2))
def test_what_comes_back_is_written_the_same_again(event: e.Event, commands: list[c.Command]) -> None:
    """So that a digest can be checked, and arguments be compared, without the original."""
    written = encode(event, commands)
    record = decode(0, 0.0, *written)
    assert encode(record.event, record.commands) == written


def test_how_to_compute_a_local_value_is_not_written() -> None:
    """It is code; the body asks for it again."""
    kind, path, data = encode(e.TimerFired("1"), [c.RunLocal("2", int, None)])  # type: ignore[arg-type]  # not looked at
    assert decode(0, 0.0, kind, path, data).commands == ()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("StepSucceeded", b"{"), ("StepSucceeded", b"{}"), ("StepSucceeded", b"[]"), ("Nonsense", b"{}"),
        ("StepSucceeded", b'{"result":1,"attempts":3}'), ("TimerFired", b'{"then":[["dance"]]}'),
        ("TimerFired", b'{"then":5}'), ("TimerFired", b'{"awaits":5}'), ("TimerFired", b'{"awaits":{"1":["a"]}}'),
        ("TimerFired", b'{"then":[["change","a"]],"undo":5}'), ("StepRejected", b'{"error":[],"attempts":[]}'),
        ("TimerFired", b"null"),
        ("TimerFired", b"\xff"), ("StepSucceeded", b'{"result":1,"attempts":[[1]]}'),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused_with_its_number(kind: str, data: bytes) -> None:
    """A typed error, whatever the bytes are."""
    with pytest.raises(PayloadError, match=rf"record 3 \({kind}\) cannot be read"):
        decode(3, 0.0, kind, "1", data)


@given(st.tuples(st.binary(), st.integers(0, 9), _SECONDS, _TEXT, _TEXT, st.binary()), st.integers(0, 5), st.data())
def test_a_digest_shows_every_change(record: tuple[Any, ...], place: int, data: st.DataObject) -> None:
    """Of the record before, the number, the time, the kind, the path and the content."""
    kinds: tuple[st.SearchStrategy[Any], ...] = (st.binary(), st.integers(0, 9), _SECONDS, _TEXT, _TEXT, st.binary())
    other = list(record)
    other[place] = data.draw(kinds[place].filter(lambda x: x != record[place]))
    # A separator inside of a kind or a path would let text move between them; the library's own have none.
    if not any("|" in str(x) for x in (*record[3:5], *other[3:5])):
        assert chain(*record) != chain(*other)
    assert len(chain(*record)) == 16
