"""Journals in the archive: nothing is lost, and what is altered shows."""

from __future__ import annotations

import zlib

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas import Coordinator, saga, step
from sagas.coordinator.loading import read_history
from sagas.errors import JournalCorrupted
from sagas.stores.memory import MemoryStore
from sagas.stores.packing import pack, unpack
from sagas.stores.port import JournalRow
from sagas.testing.contracts.stores._batches import row

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_rows = st.builds(
    JournalRow,
    st.just("s"),
    st.integers(0, 2**31 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    _texts,
    _texts,
    st.binary(max_size=50) | _texts.map(str.encode),
    st.binary(min_size=16, max_size=16),
)


@given(st.lists(_rows, max_size=10))
def test_what_is_packed_is_unpacked_as_it_was(rows: list[JournalRow]) -> None:
    """To the last bit of every time, and whatever the bytes are."""
    assert unpack("s", pack(rows)) == rows


def _history() -> list[JournalRow]:
    """A journal as a coordinator writes it."""
    store = MemoryStore()

    @step
    async def double(n: int) -> int:
        return 2 * n

    @saga
    async def body(n: int) -> int:
        return await double(await double(n))

    async def play() -> None:
        async with Coordinator(store, sagas=[body]) as coordinator:
            await coordinator.run(body(3), id="s")

    anyio.run(play)
    return store.load(["s"])["s"]


@pytest.fixture(scope="module")
def journal() -> list[JournalRow]:
    return _history()


def _same_or_refused(packed: bytes, journal: list[JournalRow]) -> None:
    try:
        found = unpack("s", packed)
        read_history("s", found, None)
    except JournalCorrupted:
        return
    assert found == journal


@given(st.data())
def test_an_altered_byte_is_refused_or_changes_nothing(journal: list[JournalRow], data: st.DataObject) -> None:
    """Whatever zlib lets pass, the chain of digests does not."""
    packed = bytearray(pack(journal))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    _same_or_refused(bytes(packed), journal)


@given(st.data())
def test_an_altered_record_is_refused(journal: list[JournalRow], data: st.DataObject) -> None:
    """By somebody who knows the format."""
    place = data.draw(st.integers(0, len(journal) - 1))
    column = data.draw(st.sampled_from(["seq", "at", "kind", "path", "data", "digest"]))
    value = getattr(journal[place], column)
    by = data.draw(st.integers(1, 3))
    if column == "digest":
        other = bytes([value[0] ^ by]) + value[1:]
    else:
        other = value + by if isinstance(value, (int, float)) else value + type(value)(value[:by] or "1")
    altered = [*journal[:place], journal[place]._replace(**{column: other}), *journal[place + 1 :]]
    with pytest.raises(JournalCorrupted):
        read_history("s", unpack("s", pack(altered)), None)


@given(st.data())
def test_a_dropped_or_moved_record_is_refused(journal: list[JournalRow], data: st.DataObject) -> None:
    """Unless it was the last, which the end of the saga tells (``view_of``)."""
    rows = list(journal)
    taken = rows.pop(data.draw(st.integers(0, len(rows) - 2)))
    back = data.draw(st.none() | st.integers(0, len(rows)))
    if back is not None:
        rows.insert(back, taken)
    if rows != journal:
        with pytest.raises(JournalCorrupted):
            read_history("s", unpack("s", pack(rows)), None)


@given(st.integers(0, 200))
def test_a_journal_that_is_cut_off_cannot_be_unpacked(length: int) -> None:
    packed = pack([row("s", seq) for seq in range(4)])
    with pytest.raises(JournalCorrupted, match="saga s: its archived journal"):
        unpack("s", packed[: min(length, len(packed) - 1)])


@pytest.mark.parametrize("inside", [b"", b"7", b"[7]", b"[[]]", b'[[0,1.0,"k","p",[]]]', b'[[0,1.0,"k","p",7]]', b"["])
def test_what_is_no_journal_is_told_in_a_sentence(inside: bytes) -> None:
    head = pack([]).partition(b"\n")[0] + b"\n"
    with pytest.raises(JournalCorrupted, match="is not what was written"):
        unpack("s", head + zlib.compress(inside) + b"d" * 16)
    with pytest.raises(JournalCorrupted, match="format that this library does not know"):
        unpack("s", inside)


def test_a_journal_takes_less_room_packed() -> None:
    rows = [row("s", seq, b'{"result":{"id":"order-1","ok":true},"attempts":[],"then":[]}') for seq in range(6)]
    assert len(pack(rows)) < sum(len(x.data) for x in rows)
