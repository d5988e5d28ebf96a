"""Code is checked against the open sagas of a journal, before it is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from sqlalchemy import create_engine, text

from sagas import Coordinator, Saga, SagaStuck, Step, receive, saga, step
from sagas.coordinator.gate import Report, check_journal
from sagas.core.registry import Registry
from sagas.stores import Codec, store_for
from tests.coordinator.places import until


@step
async def ship(item: str) -> str:
    return item


@ship.compensator
async def unship(item: str, result: str | None) -> None: ...


@step
async def bill(item: str) -> str:
    return item


@bill.compensator
async def refund(item: str) -> None: ...


class Changed:
    """What may become of ``ship``; not where a registry finds it, since only one can go by the name."""

    @staticmethod
    def for_good() -> Step[[str], str]:
        @step(name="ship")
        async def ship_for_good(item: str) -> str:
            return item

        return ship_for_good

    @staticmethod
    def renamed() -> Step[[str], str]:
        @step(name="ship")
        async def ship_renamed(article: str) -> str:
            return article

        @ship_renamed.compensator
        async def unship_renamed(article: str) -> None: ...

        return ship_renamed

    @staticmethod
    def fast() -> Step[..., str]:
        @step(name="ship")
        async def ship_fast(item: str, *, express: bool = False) -> str:
            return item

        @ship_fast.compensator
        async def unship_fast(item: str) -> None: ...

        return ship_fast


def order(*steps: Step[..., Any], version: str = "1", continues: tuple[str, ...] = ()) -> Saga[[str], Any]:
    """A saga that takes some steps, and then waits."""

    @saga(name="order", version=version, continues=continues)
    async def body(item: str) -> Any:
        for one in steps:
            await one(item)
        return await receive("go")

    return body


@saga
async def refusal(item: str) -> None:
    await ship(item)
    raise ValueError(item)


WRITTEN = order(ship)


class Backwards:
    """A codec, as one that encrypts."""

    def encode(self, value: bytes, context: object) -> bytes:
        return value[::-1]

    def decode(self, value: bytes, context: object) -> bytes:
        return value[::-1]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """A journal that lasts, on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('on_disk').path}"
    found: str = request.getfixturevalue("postgres_url")
    return found


async def _leave(url: str, *ids: str, codec: Codec | None = None, body: Saga[[str], Any] = WRITTEN) -> None:
    """Leaves sagas waiting, and some that have ended."""
    async with Coordinator(url, sagas=[body, refusal], codec=codec, poll=0.01) as coordinator:
        for saga_id in ids:
            await coordinator.start(body("pen"), id=saga_id)
        handle = await coordinator.start(refusal("pen"))
        with pytest.raises(Exception, match="compensated"):
            await handle.result()

        async def all_wait() -> bool:
            return all([(await coordinator.get(saga_id)).waiting for saga_id in ids])

        await until(all_wait)


async def _check(
    url: str, *sagas: Saga[..., Any], steps: Sequence[Step[..., Any]] = (), codec: Codec | None = None,
    strict: bool = False,
) -> Report:  # fmt: skip
    """Checks code against a journal, as a process of its own would; steps go before those of the same name."""
    store = store_for(url)
    store.open(migrate=False)
    try:
        return await check_journal(store, Registry(sagas, steps), codec, strict=strict)
    finally:
        store.close()


async def test_code_that_fits_is_let_through(url: str) -> None:
    """All open sagas are read, and no others; what nobody wrote to is not written to."""
    await _leave(url, "a", "b", "c")
    report = await _check(url, order(ship))
    assert report.checked == {"order@1": 3}
    assert (report.findings, report.notes, report.waiting) == ((), (), ())
    async with Coordinator(url, sagas=[WRITTEN]) as coordinator:
        assert [len((await coordinator.get(saga_id)).timeline) for saga_id in "abc"] == [2, 2, 2]


async def test_an_empty_journal_fits_any_code(url: str) -> None:
    """Also none."""
    await _leave(url)
    report = await _check(url)
    assert (report.checked, report.findings) == ({}, ())


async def test_many_sagas_are_read_in_batches(url: str) -> None:
    """None is left out, none is read twice."""
    ids = [f"s{number}" for number in range(450)]
    async with Coordinator(url, sagas=[WRITTEN]) as coordinator:
        for saga_id in ids:
            await coordinator.start(WRITTEN("pen"), id=saga_id)
    report = await _check(url, order(bill))
    assert report.checked == {"order@1": 450}
    (group,) = report.groups
    assert sorted(group.ids) == sorted(ids)


async def test_a_body_that_would_diverge_is_found_with_the_first_operation(url: str) -> None:
    """Equal reasons are put together."""
    await _leave(url, "a", "b")
    report = await _check(url, order(bill, ship))
    (group,) = report.groups
    assert group.ids == ("b", "a")
    assert group.first[1:5] == ("order", "1", "forward", "1")
    assert group.first.reason == "the journal says step ship, the body now calls bill"
    assert "sagas.version" in group.first.remedy


async def test_a_compensator_that_was_removed_is_found(url: str) -> None:
    """The saga could go on, but not back."""
    await _leave(url, "a")
    bare = Changed.for_good()
    (finding,) = (await _check(url, order(bare), steps=[bare])).findings
    assert finding[:6] == ("a", "order", "1", "rollback", "1", "step ship has no compensator any more")


async def test_a_parameter_that_was_renamed_is_found(url: str) -> None:
    """Its compensator could not read what the journal has."""
    await _leave(url, "a")
    renamed = Changed.renamed()
    (finding,) = (await _check(url, order(renamed), steps=[renamed])).findings
    assert finding[3:5] == ("rollback", "1")
    assert "article: Field required" in finding.reason


async def test_a_version_without_code_is_found(url: str) -> None:
    """Unless another continues it."""
    await _leave(url, "a")
    (finding,) = (await _check(url, order(ship, version="2"))).findings
    assert finding[3:5] == ("code", "")
    assert finding.reason == "there is no code for order version 1, so it would wait"
    assert "continues=" in finding.remedy
    assert (await _check(url, order(ship, version="2", continues=("1",)))).findings == ()
    assert (await _check(url, order(ship, version="2"), order(ship))).findings == ()


async def test_other_arguments_are_noted_and_found_if_asked_for(url: str) -> None:
    """The recorded ones hold, so the saga goes on."""
    await _leave(url, "a", "b")
    fast = Changed.fast()
    report = await _check(url, order(fast), steps=[fast])
    assert report.findings == ()
    assert [(note.id, note.operation) for note in report.notes] == [("b", "1"), ("a", "1")]
    strict = await _check(url, order(fast), steps=[fast], strict=True)
    assert (strict.findings, strict.notes) == (report.notes, ())


async def test_a_parked_saga_is_told_apart_and_whether_it_is_mended(url: str) -> None:
    """It does not go on already, so that is no reason not to deploy; if it could not be undone, that is one."""
    await _leave(url, "a")
    async with Coordinator(url, sagas=[order(bill)], poll=0.01) as coordinator:
        await coordinator.signal("a", "go")

        async def parked() -> bool:
            return (await coordinator.get("a")).status == "stuck"

        await until(parked)
    good = await _check(url, order(ship), order(bill, version="2"))
    assert [waiting[:4] for waiting in good.waiting] == [("a", "order", "1", True)]
    bad = await _check(url, order(bill))
    assert [waiting[:4] for waiting in bad.waiting] == [("a", "order", "1", False)]
    assert bad.waiting[0].reason == "operation 1: the journal says step ship, the body now calls bill"
    assert bad.findings == ()
    worse = await _check(url, order(bill), steps=[Changed.renamed()])
    assert [(finding.id, finding.when) for finding in worse.findings] == [("a", "rollback")]


async def test_a_saga_whose_body_failed_beyond_its_pivot_is_told_apart(url: str) -> None:
    """It waits for better code too."""

    @step(pivot=True)
    async def pay() -> None: ...

    def paying(*, mended: bool) -> Saga[[], int]:
        @saga(name="paying")
        async def body() -> int:
            await pay()
            if not mended:
                raise ZeroDivisionError
            return 1

        return body

    broken = paying(mended=False)
    async with Coordinator(url, sagas=[broken]) as coordinator:
        handle = await coordinator.start(broken(), id="a")
        with pytest.raises(SagaStuck):
            await handle.result()
    for mended, reason in ((False, "ZeroDivisionError"), (True, "ZeroDivisionError")):
        report = await _check(url, paying(mended=mended))
        assert [waiting[3:] for waiting in report.waiting] == [(mended, reason)]
        assert report.findings == ()


async def test_a_journal_behind_a_codec_is_read_through_it(url: str) -> None:
    """Without it, nothing can be said; it says what may help."""
    await _leave(url, "a", "b", codec=Backwards())
    assert (await _check(url, order(ship), codec=Backwards())).findings == ()
    (group,) = (await _check(url, order(ship))).groups
    assert group.first.when == "journal"
    assert "cannot be read" in group.first.reason
    assert "codec" in group.first.remedy
    assert group.ids == ("b", "a")


async def test_a_journal_that_was_tampered_with_is_found(url: str) -> None:
    """Its digests show it."""
    await _leave(url, "a", "b")
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE saga_journal SET at = at + 1 WHERE saga_id = 'a' AND seq = 1"))
    engine.dispose()
    (finding,) = (await _check(url, order(ship))).findings
    assert finding[:5] == ("a", "order", "1", "journal", "")
    assert finding.reason.startswith("record 1 (StepSucceeded) is not what was written")
    assert finding.remedy == "Restore the journal from a backup"


async def test_a_body_that_uses_the_event_loop_is_found_and_harms_nothing(url: str) -> None:
    """It is kept out of its reach, as when it runs."""

    @saga(name="order")
    async def body(item: str) -> None:
        with anyio.fail_after(0.0):
            await ship(item)

    await _leave(url, "a")
    (finding,) = (await _check(url, body)).findings
    assert finding.when == "forward"
    await anyio.sleep(0.01)
