"""Steps that a participant performs: the saga is the same wherever they run."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import text
from sqlmodel import Session

from sagas import (
    Breaker,
    Coordinator,
    NotApplied,
    Rejected,
    Retry,
    Route,
    SagaCompensated,
    SagaStuck,
    Step,
    Worker,
    current_step,
    gather,
    saga,
    step,
)
from sagas.core.failures import describe
from sagas.errors import DeclarationError, MessageTooLarge, OutsideSaga, TransportClosed
from sagas.transport import Beat, Participant, StepReply, StepRequest

pytestmark = pytest.mark.anyio


class SoldOut(Rejected):
    def __init__(self, item: str) -> None:
        super().__init__(item)
        self.item = item


@dataclass
class Shop:
    """What the participants have done.

    Attributes:
        log: ``+key`` of actions that acted, ``-key`` of what was undone.
        fail: What an action raises, after it acted if ``late``.
        late: See there.
    """

    log: list[str] = field(default_factory=list[str])
    fail: list[Exception] = field(default_factory=list[Exception])
    late: bool = False

    @property
    def left(self) -> list[str]:
        """What acted and was not undone."""
        undone = [entry[1:] for entry in self.log if entry[0] == "-"]
        return [entry[1:] for entry in self.log if entry[0] == "+" and entry[1:] not in undone]

    def act(self) -> None:
        key = current_step().idempotency_key
        if self.late:
            self.log.append(f"+{key}")
        if self.fail:
            raise self.fail.pop(0)
        if not self.late:
            self.log.append(f"+{key}")

    def undo(self) -> None:
        self.log.append(f"-{current_step().undoes}")


shop = Shop()


@pytest.fixture(autouse=True)
def _empty() -> None:
    shop.log.clear()
    shop.fail.clear()
    shop.late = False


def stock(name: str = "stock.reserve") -> list[Step[..., Any]]:
    """What the participant serves."""

    @step(name=name)
    async def reserve(item: str) -> str:
        shop.act()
        return f"{item} reserved"

    @reserve.compensator
    async def release(item: str, result: str | None) -> None:
        shop.undo()

    return [reserve]


@step(name="stock.reserve", remote=True, retry=Retry(attempts=4, initial=0.001))
async def reserve(item: str) -> str:
    raise AssertionError("it is only declared here")


@reserve.compensator
async def release(item: str, result: str | None) -> None:
    raise AssertionError("it is only declared here")


@step(atomic=True)
async def ship(item: str) -> str:
    if item == "anvil":
        raise SoldOut("crate")
    return f"{item} shipped"


@saga
async def order(item: str) -> str:
    reserved = await reserve(item)
    return f"{reserved}, {await ship(item)}"


@dataclass
class Line:
    """A way to a participant that misbehaves.

    Attributes:
        participant: At the other end.
        before: Called before a request arrives; what it returns is the answer, and the request does not arrive.
        after: Called with an answer; what it returns comes back.
    """

    participant: Participant
    before: Callable[[StepRequest], StepReply | None] = lambda _: None
    after: Callable[[StepRequest, StepReply], StepReply] = lambda _, reply: reply
    seen: list[StepRequest] = field(default_factory=list[StepRequest])
    closed: bool = False

    async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
        if self.closed:
            raise TransportClosed("the line is closed")
        self.seen.append(request)
        instead = self.before(request)
        if instead is not None:
            return instead
        return self.after(request, await self.participant.perform(request, beat=beat))

    async def close(self) -> None:
        self.closed = True


LOST = StepReply.in_doubt(describe(ConnectionResetError("reset")), reached=False)
DOWN = StepReply.failed(describe(ConnectionRefusedError("refused")), reached=False)


async def test_a_saga_runs_with_a_step_elsewhere() -> None:
    """It sees the result, the participant sees what it is part of; the transport is closed with the coordinator."""
    async with Worker(stock(), inbox="memory:") as worker:
        line = Line(worker)
        async with Coordinator("memory:", sagas=[order], routes={"stock.*": line}) as coordinator:
            assert await coordinator.run(order("lamp"), id="1") == "lamp reserved, lamp shipped"
    (request,) = line.seen
    assert (request.kind, request.step, request.saga_id, request.attempt) == ("action", "stock.reserve", "1", 1)
    assert request.arguments == b'{"item":"lamp"}'
    assert line.closed


async def test_a_rollback_undoes_what_was_done_elsewhere() -> None:
    async with Worker(stock(), inbox="memory:") as worker:
        line = Line(worker)
        async with Coordinator("memory:", sagas=[order], routes={"stock.reserve": line}) as coordinator:
            with pytest.raises(SagaCompensated):
                await coordinator.run(order("anvil"))
    action, undo = line.seen
    assert (undo.kind, undo.undoes, undo.result) == ("undo", action.idempotency_key, b'"anvil reserved"')
    assert shop.left == []
    assert len(shop.log) == 2


def stock_in_a_database() -> Step[[str], str]:
    """The same in transactions; nothing but these keeps an entry from being made twice."""

    def write(session: Session, item: str) -> None:
        session.connection().execute(text("INSERT INTO held VALUES (:item)"), {"item": item})

    @step(transactional=True, name="stock.reserve", retry=Retry(attempts=4, initial=0.001))
    def reserve(session: Session, item: str) -> str:
        write(session, item)
        return f"{item} reserved"

    @reserve.compensator(transactional=True)
    def release(session: Session, item: str, result: str | None) -> None:
        assert result == f"{item} reserved"
        write(session, f"-{item}")

    return reserve


@pytest.mark.parametrize("known", [False, True])
async def test_what_is_transactional_is_so_where_it_is_performed(known: bool, tmp_path: Path) -> None:
    """However it is declared here, where no database is; a lost reply of its undo is no reason to undo it again."""
    there = stock_in_a_database()
    here: Step[[str], str] = there if known else reserve

    @saga
    async def declared(item: str) -> str:
        return f"{await here(item)}, {await ship(item)}"

    path = tmp_path / "participant.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE held (item TEXT)")
        async with Worker([there], inbox=f"sqlite:///{path}") as worker:
            line = Line(worker, after=lambda request, reply: LOST if request.attempt == 1 else reply)
            routes = {"stock.*": line}
            async with Coordinator("memory:", sagas=[declared], steps=[here], routes=routes) as coordinator:
                with anyio.fail_after(20), pytest.raises(SagaCompensated):
                    await coordinator.run(declared("anvil"))
        assert connection.execute("SELECT item FROM held").fetchall() == [("anvil",), ("-anvil",)]
    assert [request.kind for request in line.seen][-2:] == ["undo", "undo"]


async def test_each_step_of_a_saga_has_a_key_of_its_own() -> None:
    """Also where one step is called side by side with itself."""

    @saga
    async def two() -> list[str]:
        return list(await gather(reserve("lamp"), reserve("desk")))

    async with Worker(stock(), inbox="memory:") as worker:
        line = Line(worker)
        async with Coordinator("memory:", sagas=[two], routes={"stock.*": line}) as coordinator:
            assert await coordinator.run(two()) == ["lamp reserved", "desk reserved"]
    assert len({request.idempotency_key for request in line.seen}) == 2


@pytest.mark.parametrize("lost", [1, 3])
async def test_a_lost_reply_is_asked_for_again_and_the_step_acts_once(lost: int) -> None:
    async with Worker(stock(), inbox="memory:") as worker:
        line = Line(worker, after=lambda request, reply: LOST if request.attempt <= lost else reply)
        async with Coordinator("memory:", sagas=[order], routes={"stock.*": line}) as coordinator:
            assert await coordinator.run(order("lamp")) == "lamp reserved, lamp shipped"
    assert len(shop.log) == 1


async def test_what_is_in_doubt_in_the_end_is_undone_elsewhere() -> None:
    """Though every reply was lost."""
    async with Worker(stock(), inbox="memory:") as worker:
        line = Line(worker, after=lambda request, reply: LOST if request.kind == "action" else reply)
        async with Coordinator("memory:", sagas=[order], routes={"stock.*": line}) as coordinator:
            with pytest.raises(SagaCompensated):
                await coordinator.run(order("lamp"))
    assert [request.kind for request in line.seen] == ["action"] * 4 + ["undo"]
    assert shop.left == []
    assert len(shop.log) == 2


async def test_what_was_never_sent_has_not_happened_and_needs_no_undo() -> None:
    """A participant that is down does not leave the saga stuck."""
    async with Worker(stock(), inbox="memory:") as worker:
        line = Line(worker, before=lambda _: DOWN)
        async with Coordinator("memory:", sagas=[order], routes={"stock.*": Route(line, breaker=None)}) as coordinator:
            with pytest.raises(SagaCompensated, match="ConnectionRefused"):
                await coordinator.run(order("lamp"))
    assert [request.kind for request in line.seen] == ["action"] * 4


def too_large(*kinds: str) -> Callable[[StepRequest], None]:
    """A way that takes no requests of these kinds."""

    def refuse(request: StepRequest) -> None:
        if request.kind in kinds:
            raise MessageTooLarge("at most 10 bytes; nothing was sent")

    return refuse


async def test_what_is_too_large_to_be_sent_is_not_tried_again_and_has_not_happened() -> None:
    """Its undo would be as large. The way is not to blame."""
    async with Worker(stock(), inbox="memory:") as worker:
        line = Line(worker, before=too_large("action", "undo"))
        routes = {"stock.*": Route(line, breaker=Breaker(failures=1, reset=3600.0))}
        async with Coordinator("memory:", sagas=[order], routes=routes) as coordinator:
            for number in range(2):
                with pytest.raises(SagaCompensated, match="at most 10 bytes"):
                    await coordinator.run(order("lamp"), id=f"{number}")
    assert [request.kind for request in line.seen] == ["action"] * 2


async def test_an_undo_that_is_too_large_to_be_sent_is_stuck_at_once() -> None:
    """Though it may be attempted for ever: an operator should hear of it."""

    @step(name="stock.take", remote=True)
    async def take(item: str) -> str:
        raise AssertionError("it is only declared here")

    @take.compensator(retry=Retry(attempts=None))
    async def give_back(item: str, result: str | None) -> None:
        raise AssertionError("it is only declared here")

    @saga
    async def order(item: str) -> str:
        return await take(item) + await ship(item)

    async with Worker(stock("stock.take"), inbox="memory:") as worker:
        line = Line(worker, before=too_large("undo"))
        async with Coordinator("memory:", sagas=[order], routes={"stock.*": line}) as coordinator:
            with pytest.raises(SagaStuck, match="at most 10 bytes"), anyio.fail_after(20):
                await coordinator.run(order("anvil"))
    assert [request.kind for request in line.seen] == ["action", "undo"]


async def test_what_is_too_large_for_one_way_takes_the_other() -> None:
    async with Worker(stock(), inbox="memory:") as worker:
        first, second = Line(worker, before=too_large("action")), Line(worker)
        async with Coordinator(
            "memory:", sagas=[order], routes={"stock.*": Route(first, fallback=second)}
        ) as coordinator:
            assert await coordinator.run(order("lamp")) == "lamp reserved, lamp shipped"
    assert len(second.seen) == 1


async def test_a_probe_that_is_too_large_to_be_sent_leaves_its_step_in_doubt() -> None:
    @step(name="stock.take", remote=True, retry=Retry(attempts=1))
    async def take(item: str) -> str:
        raise AssertionError("it is only declared here")

    @take.compensator
    async def give_back(item: str, result: str | None) -> None: ...

    @take.probe
    async def find(item: str) -> str | NotApplied:
        raise AssertionError("it is only declared here")

    @saga
    async def order(item: str) -> str:
        return await take(item)

    def refuse(request: StepRequest) -> StepReply | None:
        too_large("probe")(request)
        return LOST if request.kind == "action" else None

    async with Worker(stock("stock.take"), inbox="memory:") as worker:
        line = Line(worker, before=refuse)
        async with Coordinator("memory:", sagas=[order], routes={"stock.*": line}) as coordinator:
            with pytest.raises(SagaCompensated, match="in doubt"), anyio.fail_after(20):
                await coordinator.run(order("lamp"))
    assert line.seen[-1].kind == "undo"


async def test_what_was_lost_once_is_undone_whatever_is_heard_later() -> None:
    """The request that was lost may still be on its way; only its undo keeps it away."""
    replies = iter([LOST, DOWN, DOWN, DOWN])
    async with Worker(stock(), inbox="memory:") as worker:
        line = Line(worker, before=lambda request: next(replies) if request.kind == "action" else None)
        async with Coordinator("memory:", sagas=[order], routes={"stock.*": Route(line, breaker=None)}) as coordinator:
            with pytest.raises(SagaCompensated):
                await coordinator.run(order("lamp"))
        assert line.seen[-1].kind == "undo"
        late = await worker.perform(line.seen[0])
    assert late == StepReply.fenced()
    assert shop.log == []


async def test_a_failure_of_an_atomic_step_elsewhere_is_fenced_too() -> None:
    """A queue may deliver the same request once more when the saga is over; it must not act then."""
    tries: list[str] = []

    @step(name="flaky", atomic=True)
    async def flaky() -> None:
        tries.append("act")
        if len(tries) == 1:
            raise OSError("not now")

    @flaky.compensator
    async def unflaky() -> None:
        tries.append("undo")

    @saga
    async def once() -> None:
        await flaky()

    async with Worker([flaky], inbox="memory:") as worker:
        line = Line(worker)
        async with Coordinator("memory:", sagas=[once], routes={"flaky": line}) as coordinator:
            with pytest.raises(SagaCompensated):
                await coordinator.run(once())
        assert await worker.perform(line.seen[0]) == StepReply.fenced()
    assert tries == ["act"]


async def test_a_rejection_elsewhere_is_the_same_exception_in_the_body() -> None:
    """Also after a reply was lost: the participant remembers that it has rejected it. So nothing is undone."""

    @step(name="pay", retry=Retry(attempts=3, initial=0.001))
    async def pay(item: str) -> None:
        raise SoldOut(item)

    @pay.compensator
    async def unpay() -> None:
        raise AssertionError("it was rejected")

    @saga
    async def buy(item: str) -> str:
        try:
            await pay(item)
        except SoldOut as error:
            return f"no {error.item}"
        return "bought"

    async with Worker([pay], inbox="memory:") as worker:
        line = Line(worker, after=lambda request, reply: LOST if request.attempt == 1 else reply)
        async with Coordinator("memory:", sagas=[buy], routes={"pay": line}) as coordinator:
            assert await coordinator.run(buy("lamp")) == "no lamp"
    assert [request.kind for request in line.seen] == ["action", "action"]


async def test_a_probe_elsewhere_is_asked_when_no_attempt_is_left() -> None:
    """What it finds to have acted has succeeded."""

    @step(name="pay")
    async def pay() -> int:
        shop.act()
        return 7

    @pay.compensator
    async def unpay() -> None:
        shop.undo()

    @pay.probe
    async def find() -> int | NotApplied:
        return 7 if shop.log else NotApplied()

    @saga
    async def buy() -> int:
        return await pay()

    shop.late = True
    shop.fail[:] = [OSError("reset")]
    async with Worker([pay], inbox="memory:") as worker:
        line = Line(worker)
        async with Coordinator("memory:", sagas=[buy], routes={"pay": line}) as coordinator:
            assert await coordinator.run(buy()) == 7
    assert [request.kind for request in line.seen] == ["action", "probe"]


async def test_what_a_probe_does_not_find_is_undone_all_the_same() -> None:
    """The request may be late."""

    @step(name="pay")
    async def pay() -> int:
        raise AssertionError("it never arrives")

    @pay.compensator
    async def unpay() -> None:
        raise AssertionError("it never acted")

    @pay.probe
    async def find() -> int | NotApplied:
        return NotApplied()

    @saga
    async def buy() -> int:
        return await pay()

    async with Worker([pay], inbox="memory:") as worker:
        line = Line(worker, before=lambda request: LOST if request.kind == "action" else None)
        async with Coordinator("memory:", sagas=[buy], routes={"pay": line}) as coordinator:
            with pytest.raises(SagaCompensated):
                await coordinator.run(buy())
        assert [request.kind for request in line.seen] == ["action", "probe", "undo"]
        assert await worker.perform(line.seen[0]) == StepReply.fenced()


async def test_a_result_of_another_type_is_undone() -> None:
    """It acted, and nobody can make anything of what it says."""
    async with Worker(stock(), inbox="memory:") as worker:
        garble = StepReply.succeeded(b'{"reserved":true}')
        line = Line(worker, after=lambda request, reply: garble if request.kind == "action" else reply)
        async with Coordinator("memory:", sagas=[order], routes={"stock.*": line}) as coordinator:
            with pytest.raises(SagaCompensated, match="does not fit its type"):
                await coordinator.run(order("lamp"))
    assert [request.kind for request in line.seen] == ["action", "undo"]
    assert shop.left == []


async def test_what_is_at_work_elsewhere_is_asked_for_again() -> None:
    """It does not use up attempts."""
    asked: list[int] = []

    def busy(request: StepRequest) -> StepReply | None:
        asked.append(request.attempt)
        return StepReply.running(retry_after=0.001) if len(asked) < 20 else None

    async with Worker(stock(), inbox="memory:") as worker:
        line = Line(worker, before=busy)
        async with Coordinator("memory:", sagas=[order], routes={"stock.*": line}) as coordinator:
            assert await coordinator.run(order("lamp")) == "lamp reserved, lamp shipped"
    assert asked == [1] * 20


async def test_a_timeout_of_a_step_holds_for_participants_too() -> None:
    @step(name="slow", timeout=0.01)
    async def slow() -> None:
        raise AssertionError("it never arrives")

    @slow.compensator
    async def unslow() -> None: ...

    @saga
    async def wait() -> None:
        await slow()

    class Silent(Line):
        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            if request.kind == "action":
                self.seen.append(request)
                await anyio.sleep_forever()
            return await super().call(request, beat=beat)

    async with Worker([slow], inbox="memory:") as worker:
        line = Silent(worker)
        async with Coordinator("memory:", sagas=[wait], routes={"slow": line}) as coordinator:
            with pytest.raises(SagaCompensated, match="no result within"):
                await coordinator.run(wait())
    assert [request.kind for request in line.seen] == ["action", "undo"]
    assert line.seen[0].deadline is not None


async def test_signs_of_life_keep_a_long_step_elsewhere_alive() -> None:
    """And one that falls silent is given up."""

    @step(name="long", heartbeat=0.8)
    async def long(silent: bool) -> str:
        raise AssertionError("it is only declared here")

    @long.compensator
    async def unlong() -> None: ...

    @saga
    async def wait(silent: bool) -> str:
        return await long(silent)

    class Beating(Line):
        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            if request.kind == "action":
                assert beat is not None
                for _ in range(0 if b"true" in request.arguments else 10):
                    await anyio.sleep(0.1)
                    beat()
                if b"true" in request.arguments:
                    await anyio.sleep_forever()
                return StepReply.succeeded(b'"done"')
            return await super().call(request, beat=beat)

    worker = Worker([long], inbox="memory:")
    async with worker, Coordinator("memory:", sagas=[wait], routes={"long": Beating(worker)}) as coordinator:
        assert await coordinator.run(wait(silent=False)) == "done"
        with pytest.raises(SagaCompensated, match="no heartbeat"):
            await coordinator.run(wait(silent=True))


# --- routes ---------------------------------------------------------------------------------------------------------


async def test_a_name_goes_before_a_pattern_and_a_longer_pattern_before_a_shorter_one() -> None:
    async with Worker(stock(), inbox="memory:") as worker:
        lines = {pattern: Line(worker) for pattern in ("*", "stock.*", "stock.reserve", "stock.reserve*")}
        for chosen in ("stock.reserve", "stock.reserve*", "stock.*"):
            async with Coordinator("memory:", sagas=[order], routes={**lines, "ship": Line(_Never())}) as coordinator:
                handle = await coordinator.start(order("lamp"))
                while not any(line.seen for line in lines.values()):  # noqa: ASYNC110 - the line is what is watched
                    await anyio.sleep(0.001)
                del handle
            assert [pattern for pattern, line in lines.items() if line.seen] == [chosen]
            del lines[chosen]
            lines = {pattern: Line(worker) for pattern in lines}


class _Never:
    """A participant that nobody reaches."""

    steps = ("ship",)

    async def perform(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
        return StepReply.rejected(describe(SoldOut("crate")))


async def test_a_route_that_fails_too_often_is_left_alone_and_its_steps_wait() -> None:
    """They do not fail: when it works again, they go on."""
    broken = True

    def refuse(request: StepRequest) -> StepReply | None:
        return DOWN if broken else None

    @step(name="stock.patient", remote=True, retry=Retry(attempts=3, initial=0.001))
    async def patient(item: str) -> str:
        raise AssertionError

    @patient.compensator
    async def unpatient(item: str) -> None:
        raise AssertionError

    @saga
    async def many(count: int) -> int:
        return len(await gather(*(patient(f"lamp {number}") for number in range(count))))

    async with Worker(stock("stock.patient"), inbox="memory:") as worker:
        line = Line(worker, before=refuse)
        route = Route(line, breaker=Breaker(failures=2, reset=0.05))
        async with Coordinator("memory:", sagas=[many], routes={"stock.*": route}) as coordinator:
            handle = await coordinator.start(many(10))
            while len(line.seen) < 13:  # noqa: ASYNC110 - the line is what is watched
                await anyio.sleep(0.001)
            broken = False
            with anyio.fail_after(20):
                assert await handle.result() == 10
    assert len(shop.log) == 10


async def test_an_undo_waits_for_its_route_too_and_nothing_is_stuck() -> None:
    """However long the participant is away, and however small the compensator's budget is."""
    broken = False

    @step(name="stock.lasting", remote=True)
    async def lasting(item: str) -> str:
        raise AssertionError

    @lasting.compensator(retry=Retry(attempts=2, initial=0.001))
    async def unlasting(item: str) -> None:
        raise AssertionError

    @saga
    async def fail() -> None:
        await lasting("lamp")
        await ship("anvil")

    async with Worker(stock("stock.lasting"), inbox="memory:") as worker:
        line = Line(worker, before=lambda request: DOWN if broken and request.kind == "undo" else None)
        route = Route(line, breaker=Breaker(failures=1, reset=0.02))
        async with Coordinator("memory:", sagas=[fail], routes={"stock.*": route}) as coordinator:
            broken = True
            handle = await coordinator.start(fail(), id="s")
            with anyio.fail_after(20):
                while len(line.seen) < 8:  # noqa: ASYNC110 - the line is what is watched
                    await anyio.sleep(0.001)
                broken = False
                with pytest.raises(SagaCompensated):
                    await handle.result()
    assert shop.left == []


async def test_a_step_that_waits_for_its_route_too_long_was_not_made() -> None:
    """It fails by its total_timeout, and needs no undo."""

    @step(name="stock.patient", remote=True, total_timeout=0.2, retry=Retry(attempts=None, initial=0.001))
    async def hasty(item: str) -> str:
        raise AssertionError

    @hasty.compensator
    async def unhasty(item: str) -> None:
        raise AssertionError

    @saga
    async def one() -> str:
        return await hasty("lamp")

    async with Worker(stock("stock.patient"), inbox="memory:") as worker:
        line = Line(worker, before=lambda _: DOWN)
        route = Route(line, breaker=Breaker(failures=1, reset=3600.0))
        async with Coordinator("memory:", sagas=[one], routes={"stock.*": route}) as coordinator:
            with pytest.raises(SagaCompensated, match="left alone"):
                await coordinator.run(one())
    assert [request.kind for request in line.seen] == ["action"]


async def test_a_second_way_is_taken_while_the_first_does_not_work() -> None:
    """To the same inbox, so the step acts once, whichever way its duplicates take."""
    async with Worker(stock(), inbox="memory:") as worker:
        first, second = Line(worker, before=lambda _: DOWN), Line(worker)
        routes = {"stock.*": Route(first, fallback=second, breaker=Breaker(failures=2, reset=3600.0))}
        async with Coordinator("memory:", sagas=[order], routes=routes) as coordinator:
            for number in range(4):
                assert await coordinator.run(order("lamp"), id=f"{number}") == "lamp reserved, lamp shipped"
    assert len(shop.log) == len(second.seen) == 4
    assert len(first.seen) == 2
    assert first.closed
    assert second.closed


async def test_a_second_way_may_fail_in_any_way_too() -> None:
    """Then nobody knows, and the coordinator goes on."""

    def fail(request: StepRequest) -> None:
        if request.kind == "action":
            raise KeyError("a fault of its client library")

    async with Worker(stock(), inbox="memory:") as worker:
        first, second = Line(worker, before=lambda _: DOWN), Line(worker, before=fail)
        routes = {"stock.*": Route(first, fallback=second, breaker=None)}
        async with Coordinator("memory:", sagas=[order], routes=routes) as coordinator:
            with pytest.raises(SagaCompensated, match="a fault of its client"), anyio.fail_after(20):
                await coordinator.run(order("lamp"))
    assert [request.kind for request in second.seen] == ["action"] * 4 + ["undo"]


def test_a_remote_step_without_a_route_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"stock\.reserve is remote, and no route leads to it"):
        Coordinator("memory:", sagas=[order])
    with pytest.raises(DeclarationError, match="neither a transport nor a Route"):
        Coordinator("memory:", sagas=[order], routes={"stock.*": "http://stock"})  # type: ignore[dict-item]  # the point


async def test_a_remote_step_is_not_run_outside_a_saga() -> None:
    with pytest.raises(OutsideSaga, match="a participant performs it"):
        await reserve("lamp")


# --- crashes --------------------------------------------------------------------------------------------------------


async def test_a_coordinator_that_comes_back_sends_its_requests_again(tmp_path: Path) -> None:
    """Under the same key, so that the participant answers from memory."""
    url = f"sqlite:///{tmp_path / 'orders.db'}"
    async with Worker(stock(), inbox=f"sqlite:///{tmp_path / 'stock.db'}") as worker:

        class Cut(Line):
            async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
                await super().call(request, beat=beat)
                arrived.set()
                await anyio.sleep_forever()
                raise AssertionError

        arrived = anyio.Event()
        cut = Cut(worker)
        async with Coordinator(url, sagas=[order], routes={"stock.*": cut}, shutdown_timeout=0.0) as coordinator:
            await coordinator.start(order("lamp"), id="1")
            await arrived.wait()
        line = Line(worker)
        async with Coordinator(url, sagas=[order], routes={"stock.*": line}) as coordinator:
            assert await coordinator.run(order("lamp"), id="1") == "lamp reserved, lamp shipped"
    assert replace(line.seen[0], headers={}) == replace(cut.seen[0], headers={})
    assert len(shop.log) == 1
