"""Where whatever can be observed at any time is posted, for the gauges of one meter provider.

A meter keeps a gauge for as long as it lives, and one of each name. Coordinators come and go, and there may be several
in a process. So the gauges belong to the provider, and ask whoever is there when they are read.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry.metrics import Observation

from sagas.telemetry.metrics_table import METRICS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider

    from sagas.telemetry.metrics_table import Metric

__all__ = ["Board", "Point", "board_for"]

logger = logging.getLogger("sagas.telemetry")


class Point(NamedTuple):
    """What is observed.

    Attributes:
        metric: Which one.
        value: In its unit.
        values: Of its attributes, in their order.
        of: For a gauge, whose it is, such as a store's URL: who says the same of the same counts once.
    """

    metric: Metric
    value: float
    values: tuple[str, ...] = ()
    of: str = ""


class Board:
    """See the module.

    Args:
        meter: Whose gauges.
    """

    def __init__(self, meter: Meter) -> None:
        self._lock = threading.Lock()
        self._sources: list[Callable[[], Iterable[Point]]] = []
        for metric in METRICS:
            if metric.kind in _OBSERVED:
                self._create(meter, metric)

    def _create(self, meter: Meter, metric: Metric) -> None:
        """Makes an instrument that asks this board."""
        callbacks = [partial(self._observe, metric)]
        if metric.kind is Kind.GAUGE:
            meter.create_observable_gauge(metric.name, callbacks, metric.unit, metric.about)
        else:
            meter.create_observable_up_down_counter(metric.name, callbacks, metric.unit, metric.about)

    def post(self, source: Callable[[], Iterable[Point]]) -> None:
        """Has somebody asked from now on; in any thread, so an answer must take no time."""
        with self._lock:
            self._sources.append(source)

    def remove(self, source: Callable[[], Iterable[Point]]) -> None:
        """Has them asked no more."""
        with self._lock:
            self._sources.remove(source)

    def _observe(self, metric: Metric, _: CallbackOptions) -> list[Observation]:
        """Puts together what everybody says: the largest where they speak of the same, then the sum."""
        largest: dict[tuple[tuple[str, ...], object], float] = {}
        for number, point in enumerate(self._points()):
            if point.metric is metric:
                about = (point.values, point.of or number)
                largest[about] = max(largest.get(about, point.value), point.value)
        total: dict[tuple[str, ...], float] = defaultdict(float)
        for (values, _of), value in largest.items():
            total[values] += value
        named = ((dict(zip(metric.attributes, values, strict=True)), value) for values, value in total.items())
        return [Observation(value, attributes) for attributes, value in named]

    def _points(self) -> list[Point]:
        """Asks everybody."""
        with self._lock:
            sources = list(self._sources)
        points: list[Point] = []
        for source in sources:
            try:
                points += source()
            except Exception:
                logger.exception("what can be observed of a coordinator could not be read")
        return points


_OBSERVED = (Kind.GAUGE, Kind.UP_DOWN_COUNTER)
_boards: WeakKeyDictionary[MeterProvider, Board] = WeakKeyDictionary()
_making = threading.Lock()


def board_for(provider: MeterProvider, meter: Meter) -> Board:
    """Gives the board of a provider."""
    with _making:
        board = _boards.get(provider)
        if board is None:
            board = _boards[provider] = Board(meter)
        return board
