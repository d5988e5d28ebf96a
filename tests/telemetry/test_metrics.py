"""What is measured: everything that became durable, once, with exemplars that point at its trace."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry import metrics as otel_metrics
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from sagas import Client, Coordinator, Rejected, Retry, SagaCompensated, SagaStuck, gather, saga, step
from sagas.coordinator.measuring import failed_since
from sagas.coordinator.routing import Breaker, Route
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.records import Record
from sagas.errors import StoreUnavailable
from sagas.stores.memory import MemoryStore
from sagas.stores.port import Batch, Committed
from sagas.telemetry import Metering, find_metering
from tests.coordinator.places import Clock, Gate, Place, until
from tests.telemetry.meter import Meter


class Shop:
    """Steps that do as they are told, and sagas of them."""

    def __init__(self) -> None:
        self.failures = 0
        self.undo_works = True
        self.gate = Gate()

        @step(retry=Retry(attempts=5, initial=0.001))
        async def reserve(item: str) -> str:
            if self.failures:
                self.failures -= 1
                raise ConnectionError("no line")
            return item

        @reserve.compensator(retry=Retry(attempts=2, initial=0.001))
        async def release(item: str) -> None:
            if not self.undo_works:
                raise ConnectionError("no line")

        @step
        async def refuse() -> None:
            raise Rejected("never")

        @step
        async def wait() -> None:
            await self.gate.wait()

        @saga
        async def good(item: str) -> str:
            return await reserve(item)

        @saga
        async def bad(item: str) -> None:
            await reserve(item)
            await refuse()

        @saga
        async def refused() -> None:
            await refuse()

        @saga
        async def late(item: str) -> None:
            await gather(reserve(item), wait(), refuse())

        @saga
        async def slow(item: str) -> None:
            await reserve(item)
            await wait()

        self.good, self.bad, self.refused, self.late, self.slow = good, bad, refused, late, slow
        self.sagas = (good, bad, refused, late, slow)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "journal.db")


# --- by record ------------------------------------------------------------------------------------------------------


async def test_what_happened_is_counted_once(shop: Shop, meter: Meter) -> None:
    shop.failures = 2
    async with Coordinator("memory:", sagas=shop.sagas, meter_provider=meter.provider) as coordinator:
        await coordinator.run(shop.good("lamp"))
        await coordinator.run(shop.good("lamp"))
        with pytest.raises(SagaCompensated):
            await coordinator.run(shop.bad("lamp"))
    assert meter.values("saga.started") == {("good",): 2, ("bad",): 1}
    assert meter.values("saga.ended") == {("good", "completed"): 2, ("bad", "compensated"): 1}
    assert meter.values("saga.duration") == meter.values("saga.ended")
    assert meter.values("saga.step.duration") == {
        ("good", "reserve", "failed"): 2,
        ("good", "reserve", "succeeded"): 2,
        ("bad", "reserve", "succeeded"): 1,
        ("bad", "refuse", "failed"): 1,
    }
    assert meter.values("saga.retries") == {("good", "reserve", False): 2}
    assert meter.values("saga.compensations") == {("bad", "reserve", "succeeded"): 1}
    assert meter.values("saga.compensation.duration") == {("bad", "reserve", "succeeded"): 1}
    assert meter.values("saga.time_to_consistent") == {("bad",): 1}
    assert meter.values("saga.takeovers") == meter.values("saga.halts") == {}


async def test_a_commit_is_measured_by_its_records_and_its_time(shop: Shop, meter: Meter, place: Place) -> None:
    async with place.coordinator(*shop.sagas, meter_provider=meter.provider) as coordinator:
        await coordinator.run(shop.good("lamp"))
    (records,) = meter.read("saga.journal.commit.records").values()
    (commits,) = meter.read("saga.journal.commit.duration").values()
    assert records.total == place.sql("SELECT count(*) FROM saga_journal")[0][0]
    assert records.value == commits.value
    assert commits.total > 0


async def test_a_commit_that_fails_says_so_and_its_records_count_when_they_are_written(
    shop: Shop, meter: Meter
) -> None:
    class Stumbling(MemoryStore):
        stumbles = 1

        def commit(self, batch: Batch) -> Committed:
            if self.stumbles and batch.rows:
                self.stumbles -= 1
                raise StoreUnavailable("away")
            return super().commit(batch)

    async with Coordinator(Stumbling(), sagas=shop.sagas, meter_provider=meter.provider) as coordinator:
        await coordinator.run(shop.good("lamp"))
    assert meter.values("saga.journal.commit.duration") == {(): 2, ("StoreUnavailable",): 1}
    assert meter.read("saga.journal.commit.records")[()].total == 2


async def test_what_is_consistent_again_is_measured_from_the_first_failure_not_from_the_first_undo(
    shop: Shop, meter: Meter, place: Place
) -> None:
    """A sibling in flight ends first, and all that time the saga is on its way back."""
    async with place.coordinator(*shop.sagas, meter_provider=meter.provider) as coordinator:
        handle = await coordinator.start(shop.late("lamp"), id="s")
        await shop.gate.arrival()

        async def refused() -> bool:
            return any(x.state == "rejected" for x in (await coordinator.get("s")).steps)

        await until(refused)
        shop.gate.open()
        with pytest.raises(SagaCompensated):
            await handle.result()
    by_kind = dict(place.sql("SELECT kind, at FROM saga_journal ORDER BY seq"))
    took = meter.read("saga.time_to_consistent")[("late",)].total
    assert took == pytest.approx(by_kind["UndoSucceeded"] - by_kind["StepRejected"], abs=1e-6)
    assert took > 0


async def test_what_had_nothing_to_undo_was_consistent_all_the_time(shop: Shop, meter: Meter) -> None:
    async with Coordinator("memory:", sagas=shop.sagas, meter_provider=meter.provider) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(shop.refused())
    assert meter.values("saga.ended") == {("refused", "compensated"): 1}
    assert meter.values("saga.time_to_consistent") == {}


def test_a_failure_that_the_body_survives_does_not_count() -> None:
    info = e.ErrorInfo("x", "y")
    begins = (c.RunStep("2", "charge", None, b"{}", 0.0),)
    undoes = (c.RunUndo("1", "reserve", None, b"{}", None),)
    failed = Record(1, 10.0, e.StepRejected("1", info), ())
    caught = Record(2, 20.0, e.StepSucceeded("0", b"null"), begins)
    again = Record(3, 30.0, e.StepInDoubt("2", info), undoes)
    taken = Record(4, 40.0, e.SagaTakenOver("other"), begins)
    assert failed_since([failed]) == 10.0
    assert failed_since([failed, caught]) is None
    assert failed_since([failed, caught, again]) == 30.0
    assert failed_since([failed, caught, again, taken]) == 30.0
    assert failed_since([Record(1, 5.0, e.TimerFired("3"), ()), Record(2, 6.0, e.TimerFired(""), undoes)]) == 6.0
    assert failed_since([Record(1, 5.0, e.CancelRequested("no"), undoes), failed]) == 5.0


async def test_a_failed_undo_and_one_that_is_skipped_are_counted_and_so_is_the_halt(shop: Shop, meter: Meter) -> None:
    shop.undo_works = False
    async with Coordinator("memory:", sagas=shop.sagas, meter_provider=meter.provider) as coordinator:
        handle = await coordinator.start(shop.bad("lamp"), id="s")
        with pytest.raises(SagaStuck):
            await handle.result()
        assert meter.values("saga.halts") == {("bad",): 1}
        assert meter.values("saga.compensations") == {("bad", "reserve", "failed"): 1}
        assert meter.values("saga.retries") == {("bad", "reserve", True): 1}
        assert meter.values("saga.time_to_consistent") == {}
        await coordinator.skip("s", reason="it was never there")
        with pytest.raises(SagaCompensated):
            await handle.result()
    assert meter.values("saga.compensations")["bad", "reserve", "skipped"] == 1
    assert meter.values("saga.time_to_consistent") == {("bad",): 1}


async def test_what_is_rare_is_counted_from_zero(shop: Shop, meter: Meter) -> None:
    """Whoever looks for a change sees the first time, too."""
    async with Coordinator("memory:", sagas=[shop.good], meter_provider=meter.provider) as coordinator:
        await coordinator.run(shop.good("lamp"))
    for name in ("saga.halts", "saga.takeovers", "saga.losses"):
        assert {key: seen.value for key, seen in meter.read(name).items()} == {("good",): 0}
    assert meter.read("saga.lease.lapses")[()].value == 0
    assert meter.read("saga.ended")["good", "compensated"].value == 0
    assert not meter.read("saga.halts")["good",].exemplars


# --- several coordinators -------------------------------------------------------------------------------------------


async def test_takeovers_losses_and_lapsed_leases_are_counted_by_whom_they_happen_to(shop: Shop, place: Place) -> None:
    old, new = Meter(), Meter()
    clock = Clock()
    async with place.coordinator(*shop.sagas, clock=clock, meter_provider=old.provider, lease=5.0) as paused:
        await paused.start(shop.slow("lamp"), id="s")
        await shop.gate.arrival()
        async with place.coordinator(*shop.sagas, clock=Clock(ahead=60), meter_provider=new.provider) as successor:

            async def taken() -> bool:
                return new.values("saga.takeovers") == {("slow",): 1}

            await until(taken)
            clock.ahead = 61.0  # wakes up after its lease

            async def dropped() -> bool:
                return old.values("saga.losses") == {("slow",): 1}

            await until(dropped)
            shop.gate.open()
            await successor.run(shop.slow("lamp"), id="s")
    assert old.values("saga.lease.lapses") == {(): 1}
    assert old.values("saga.started") == {("slow",): 1}
    assert new.values("saga.started") == new.values("saga.losses") == {}
    assert old.values("saga.ended") == {}
    assert new.values("saga.ended") == {("slow", "completed"): 1}


async def test_what_a_client_starts_is_no_takeover_and_its_delay_is_measured(
    shop: Shop, meter: Meter, place: Place
) -> None:
    async with place.coordinator(*shop.sagas), Client(place.store()) as client:
        await client.start(shop.good("lamp"), id="other")  # so that the tables are there
    async with Client(place.store()) as client:
        handle = await client.start(shop.good("lamp"), id="s")
        async with place.coordinator(*shop.sagas, meter_provider=meter.provider) as coordinator:
            assert await handle.result() == "lamp"
            began, started = place.sql("SELECT max(at), min(at) FROM saga_journal WHERE saga_id = 's' AND seq < 2")[0]
            await coordinator.run(shop.good("lamp"), id="mine")
    delay = meter.read("saga.start.delay")
    assert delay["good",].total >= began - started - 1e-6
    assert delay["good",].value == meter.values("saga.started")["good",] - 1
    assert meter.values("saga.takeovers") == {}


# --- exemplars ------------------------------------------------------------------------------------------------------


async def test_an_exemplar_points_at_the_span_that_was_measured(shop: Shop, meter: Meter) -> None:
    exporter = InMemorySpanExporter()
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    options: dict[str, Any] = {"meter_provider": meter.provider, "tracer_provider": tracer_provider}
    async with Coordinator("memory:", sagas=shop.sagas, **options) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(shop.bad("lamp"))
    spans = {(x.context.trace_id, x.context.span_id): x.name for x in exporter.get_finished_spans() if x.context}

    def pointed_at(name: str, *values: object) -> list[str]:
        return [spans[place] for place in meter_read[name, values].exemplars]

    meter_read = {(name, tuple(found.values())): seen for name, found, seen in meter.points()}
    assert pointed_at("saga.step.duration", "bad", "refuse", "failed") == ["step refuse"]
    assert pointed_at("saga.compensation.duration", "bad", "reserve", "succeeded") == ["compensate reserve"]
    assert pointed_at("saga.compensations", "bad", "reserve", "succeeded") == ["compensate reserve"]
    for name in ("saga.started", "saga.time_to_consistent"):
        assert pointed_at(name, "bad") == ["saga bad"]
    for name in ("saga.ended", "saga.duration"):
        assert pointed_at(name, "bad", "compensated") == ["saga bad"]


async def test_nothing_points_at_a_trace_that_is_not_there(shop: Shop, meter: Meter) -> None:
    """Neither at one that is not sampled, nor at whatever span was current when the coordinator was entered."""
    tracer = TracerProvider().get_tracer("mine")
    for provider in (TracerProvider(sampler=ALWAYS_OFF), None):
        with tracer.start_as_current_span("mine"):
            coordinator = Coordinator(
                "memory:", sagas=shop.sagas, meter_provider=meter.provider, tracer_provider=provider
            )
            await coordinator.__aenter__()
        try:
            await coordinator.run(shop.good("lamp"))
        finally:
            await coordinator.__aexit__(None, None, None)
    assert meter.values("saga.ended") == {("good", "completed"): 2}
    assert not any(seen.exemplars for _, _, seen in meter.points())


# --- gauges ---------------------------------------------------------------------------------------------------------


async def test_gauges_say_what_is_open_stuck_and_waits_for_a_coordinator(
    shop: Shop, meter: Meter, place: Place
) -> None:
    shop.undo_works = False
    async with place.coordinator(shop.bad, shop.slow) as coordinator:
        with pytest.raises(SagaStuck):
            await coordinator.run(shop.bad("lamp"))
        await coordinator.start(shop.slow("lamp"))
        await shop.gate.arrival()
        async with Client(place.store()) as client:
            await client.start(shop.good("lamp"))  # nobody here has its code
        async with place.coordinator(shop.bad, meter_provider=meter.provider, name="reads") as other:

            async def counted() -> bool:
                return bool(meter.values("saga.open"))

            await until(counted)
            assert meter.values("saga.open") == {("running",): 2, ("compensating",): 0, ("stuck",): 1}
            assert meter.values("saga.stuck") == {("bad",): 1}
            assert meter.values("saga.backlog") == {(): 1}
            assert meter.values("saga.coordinators") == {(): 2}
            assert meter.values("saga.active") == {(): 0}
            assert meter.values("saga.journal.stalled") == {(): 0}
            assert other._engine is not None
        shop.gate.open()


async def test_coordinators_of_one_process_say_the_same_of_a_store_once_and_add_up_what_is_their_own(
    shop: Shop, meter: Meter, place: Place
) -> None:
    """And those that are left say nothing any more."""
    options: dict[str, Any] = {"meter_provider": meter.provider}
    async with place.coordinator(shop.slow, **options) as one, place.coordinator(shop.slow, **options) as two:
        await one.start(shop.slow("lamp"))
        await two.start(shop.slow("lamp"))
        await shop.gate.arrival(2)
        async with place.coordinator(shop.good, **options):

            async def counted() -> bool:
                return meter.values("saga.coordinators") == {(): 3}

            await until(counted)
            assert meter.values("saga.open")["running",] == 2
            assert meter.values("saga.active") == {(): 2}
        async with Coordinator(MemoryStore(), sagas=[shop.slow], **options) as elsewhere:
            await elsewhere.start(shop.slow("lamp"))

            async def counted_too() -> bool:
                return meter.values("saga.coordinators") == {(): 3}  # two there, one here

            await until(counted_too)
            assert meter.values("saga.active") == {(): 3}
            shop.gate.open()
        shop.gate.open()
    assert meter.values("saga.active") == meter.values("saga.open") == {}


async def test_a_breaker_that_is_open_shows(shop: Shop, meter: Meter) -> None:
    class Away:
        async def call(self, request: object, *, beat: object = None) -> Any:
            raise AssertionError

        async def close(self) -> None:
            pass

    route = Route(Away(), breaker=Breaker(failures=1, reset=3600.0))
    routes = {"stock.*": route, "plain": Route(Away(), breaker=None)}
    async with Coordinator("memory:", sagas=shop.sagas, meter_provider=meter.provider, routes=routes):

        async def shows() -> bool:
            return meter.values("saga.route.open_breakers") == {("stock.*",): 0}

        await until(shows)
        route.report(route.transport, None, 0.0)
        assert meter.values("saga.route.open_breakers") == {("stock.*",): 1}


# --- whether anybody looks ------------------------------------------------------------------------------------------


async def test_without_a_provider_nothing_is_measured(shop: Shop) -> None:
    for provider in (None, NoOpMeterProvider()):
        async with Coordinator("memory:", sagas=shop.sagas, meter_provider=provider) as coordinator:
            assert coordinator._engine is not None
            assert coordinator._engine.measuring is None
            assert coordinator._engine.journal.commits.committed is None
            await coordinator.run(shop.good("lamp"))


def test_the_global_provider_is_taken_unless_another_one_is_given(
    monkeypatch: pytest.MonkeyPatch, meter: Meter
) -> None:
    assert find_metering(None) is None  # OpenTelemetry's own stand-in
    monkeypatch.setattr(otel_metrics, "get_meter_provider", lambda: meter.provider)
    found = find_metering(None)
    assert found is not None
    with pytest.raises(TypeError, match="no MeterProvider"):
        find_metering(TracerProvider())  # type: ignore[arg-type]  # that is what it is about
    other = find_metering(Meter().provider)
    assert other is not None
    assert found.board is not other.board
    assert found.board is Metering(meter.provider).board


async def test_a_saga_goes_on_whatever_comes_of_measuring_it(
    shop: Shop, meter: Meter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Mapping[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise RuntimeError("the SDK is broken")

        __len__ = __iter__ = __getitem__  # type: ignore[assignment]  # nobody asks

    async with Coordinator("memory:", sagas=shop.sagas, meter_provider=meter.provider) as coordinator:
        assert coordinator._engine is not None
        measuring = coordinator._engine.measuring
        assert measuring is not None
        monkeypatch.setattr(measuring._metering, "_writers", Broken())
        with anyio.fail_after(10):
            assert await coordinator.run(shop.good("lamp")) == "lamp"
            with pytest.raises(SagaCompensated):
                await coordinator.run(shop.bad("lamp"))
    assert caplog.text.count("could not be measured") == 1
