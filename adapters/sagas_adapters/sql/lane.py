"""One thread for all that the tasks of a process do with the queues of a database.

What is asked for while a transaction is under way is done in the next one, all of it. So there is one commit for many
sends, receipts and acknowledgements, however many tasks there are; and whoever waits for messages takes part in the
very transaction that brings one.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from sagas.errors import StoreError, StoreUnavailable, TransportClosed
from sagas_adapters.sql.asking import Ack, Post, Request, Send, Take, Untake
from sagas_adapters.sql.desk import Desk
from sagas_adapters.sql.dialects import Place

if TYPE_CHECKING:
    from sagas.stores.sql import SqlStore
    from sagas.transport.queues import Delivery
    from sagas_adapters.sql.watching import Watch

__all__ = ["Lane", "place_of"]

# Seconds after which an event loop that was to tell that its tasks have asked for enough is believed to be gone.
_FLUSH = 0.1


def place_of(delivery: Delivery) -> Place:
    """Reads a receipt."""
    message, _, count = delivery.receipt.partition(".")
    return int(message), int(count)


class Lane:
    """See the module.

    Args:
        store: The database.
        watch: Tells of what other processes do.
        clock: Tells the time, where that is not the database's.
        begin: Called in the thread before all else.
        end: Called in the thread in the end.
    """

    def __init__(
        self,
        store: SqlStore,
        watch: Watch,
        *,
        clock: Callable[[], float] | None,
        begin: Callable[[], None],
        end: Callable[[], None],
    ) -> None:
        self._store = store
        self._watch = watch
        self._clock = clock
        self._begin = begin
        self._end = end
        self._condition = threading.Condition()
        self._pending: list[Request] = []
        self._flush_at = 0.0
        self._ready = False
        self._standing: dict[str, list[Take]] = defaultdict(list)
        self._flying: set[Take] = set()
        self._woken: set[str] = set()
        self._due: dict[str, float] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sagas-sql-queue", daemon=True)

    # --- from event loops ---------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Has something done."""
        now = time.monotonic()
        with self._condition:
            if self._stopping:
                raise TransportClosed("the queue's connection to its database is closed")
            if not self._thread.is_alive() and self._thread.ident is None:
                self._thread.start()
            self._pending.append(request)
            if now < self._flush_at:
                return
            self._flush_at = now + _FLUSH
        request.post(self._flush)  # when other tasks have had their turn, too

    def _flush(self) -> None:
        """Has all that was asked for until now done."""
        with self._condition:
            self._flush_at = 0.0
            self._ready = True
            self._condition.notify()

    def wake(self, queues: Iterable[str] | None = None) -> None:
        """Says that there may be something in queues, or in all."""
        with self._condition:
            self._woken.update(self._standing if queues is None else queues)
            self._condition.notify()

    def withdraw(self, take: Take) -> bool:
        """Stops waiting for messages; says whether none can come any more."""
        with self._condition:
            take.patient = False
            if take.state == "pending":
                self._pending.remove(take)
            elif take.state == "standing":
                self._leave(take)
            else:
                return False
            take.state = "over"
            return True

    def _leave(self, take: Take) -> None:
        """Forgets one that waits."""
        self._standing[take.queue].remove(take)
        if not self._standing[take.queue]:
            del self._standing[take.queue]
            self._due.pop(take.queue, None)

    def abandon(self, take: Take) -> None:
        """Does the same, and gives back what comes all the same."""
        if self.withdraw(take):
            return
        with self._condition:
            take.abandoned = True
            found = take.found if take.state == "over" else ()
        self._untake(take, found)

    def _untake(self, take: Take, found: Sequence[Delivery]) -> None:
        """Gives back what reached nobody; if that fails, it is visible again later."""
        if not found:
            return
        with self._condition:
            places = [place_of(delivery) for delivery in found]
            self._pending.append(Untake(_nowhere, queue=take.queue, places=places))
            self._ready = True
            self._condition.notify()

    def forsake(self, owner: object, error: Exception) -> None:
        """Ends the waiting of all who wait on a connection."""
        with self._condition:
            for take in self._flying:
                if take.owner is owner:
                    take.forsaken = error  # told at the end of the transaction
            takes = [take for takes in list(self._standing.values()) for take in takes if take.owner is owner]
            takes += [take for take in self._pending if isinstance(take, Take) and take.owner is owner]
            for take in takes:
                self.withdraw(take)
                take.error = error
        for take in takes:
            take.post(take.done.set)

    def stop(self) -> None:
        """Does what was asked for, and ends."""
        with self._condition:
            self._stopping = True
            self._ready = True
            self._condition.notify()
        if self._thread.ident is not None:
            self._thread.join()

    # --- in the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Does one transaction after the other."""
        trouble = self._try_to_begin()
        while (batch := self._next()) is not None:
            trouble = trouble and self._try_to_begin()
            if trouble is None:
                self._do(batch)
            else:
                self._settle(batch, trouble)
        self._watch.close()
        self._end()

    def _try_to_begin(self) -> Exception | None:
        """Opens the database, or says why that cannot be done now."""
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001 - whoever asks for something is told
            return error
        return None

    def _next(self) -> list[Request] | None:
        """Waits until there is something to do."""
        while True:
            with self._condition:
                if not self._is_time():
                    if self._stopping:
                        return None
                    self._condition.wait(self._patience())
                if self._is_time():
                    return self._collect()
                queues = list(self._standing)
            if queues:
                self._look(queues)

    def _is_time(self) -> bool:
        """Says whether there is something to do."""
        now = time.monotonic()
        return bool(
            (self._ready and self._pending)
            or self._woken.intersection(self._standing)
            or any(due <= now for due in self._due.values())
        )

    def _patience(self) -> float | None:
        """Gives the seconds after which to look by itself."""
        if not self._standing:
            return None
        due = min(self._due.values(), default=float("inf")) - time.monotonic()
        return max(0.0, min(self._watch.interval(), due))

    def _collect(self) -> list[Request]:
        """Picks what the next transaction does."""
        batch, self._pending, self._ready = self._pending, [], False
        now = time.monotonic()
        queues = {*self._woken, *(queue for queue, due in self._due.items() if due <= now)}
        queues.update(queue for request in batch for queue in request.stirs)
        self._woken.clear()
        for queue in queues.intersection(self._standing):
            batch += self._standing.pop(queue)
        for queue in queues:
            self._due.pop(queue, None)
        self._take_off([request for request in batch if isinstance(request, Take)])
        return batch

    def _take_off(self, takes: Iterable[Take]) -> None:
        """Notes what takes part in a transaction, and is neither pending nor standing until that has ended."""
        for take in takes:
            take.state = "flying"
            self._flying.add(take)

    def _look(self, queues: Sequence[str]) -> None:
        """Asks the database whether others have done something."""
        try:
            found = self._watch.look(queues, self._now())
        except StoreError as error:
            with self._condition:
                takes = [take for queue in queues for take in self._standing.pop(queue, ())]
                self._take_off(takes)
                self._due.clear()
            self._settle(takes, error)
            return
        now = time.monotonic()
        with self._condition:
            for queue, seconds in found.items():
                if seconds is None:
                    self._due.pop(queue, None)
                elif queue in self._standing:
                    self._due[queue] = now + seconds

    def _now(self) -> float | None:
        """Gives the time, where it is not the database's."""
        return None if self._clock is None else self._clock()

    def _do(self, batch: Sequence[Request]) -> None:
        """Does all of it in one transaction; or each by itself, if one of them cannot be done."""
        try:
            due = self._transact(batch)
        except StoreUnavailable as error:
            self._settle(batch, error)
        except Exception as error:  # noqa: BLE001 - whoever asked for it is told
            if len(batch) == 1:
                self._settle(batch, error)
                return
            for request in batch:
                self._do([request])
        else:
            with self._condition:
                now = time.monotonic()
                self._due.update((queue, now + seconds) for queue, seconds in due.items())
            self._settle(batch, None)
            self._watch.tell({queue for request in batch for queue in request.stirs})

    def _transact(self, batch: Sequence[Request]) -> dict[str, float]:
        """Does it, and says when the next message is due in queues that have nothing for those who wait."""
        with self._store.begin() as connection:
            desk = Desk(connection, self._now())
            takes = _by_terms(batch)
            self._acknowledge(desk, [request for request in batch if isinstance(request, Ack)])
            for request in batch:
                if not isinstance(request, Ack | Send | Take):
                    request.perform(desk)
            for queue, visibility, max_deliveries in takes:
                desk.sweep(queue, max_deliveries, f"not acknowledged within {visibility:g} s")
            desk.go_on()
            sends = [request for request in batch if isinstance(request, Send)]
            if sends:
                desk.send([row for request in sends for row in request.rows], sends[0].window)
            return self._take_all(desk, takes)

    def _acknowledge(self, desk: Desk, acks: Sequence[Ack]) -> None:
        """Deletes what was dealt with."""
        if not acks:
            return
        late = desk.ack([place for ack in acks for place in ack.places])
        for ack in acks:
            ack.late = [place for place in ack.places if place[0] in late]

    def _take_all(self, desk: Desk, takes: dict[tuple[str, float, int], list[Take]]) -> dict[str, float]:
        """Delivers to those who receive, in the order in which they came."""
        due: dict[str, float] = {}
        for (queue, visibility, _), some in takes.items():
            found = desk.take(queue, sum(take.limit for take in some), visibility)
            position = 0
            for take in some:
                take.found = found[position : position + take.limit]
                position += take.limit
            if any(take.patient and not take.found for take in some):
                seconds = desk.next_due(queue)
                if seconds is not None:
                    due[queue] = seconds
        return due

    def _settle(self, batch: Sequence[Request], error: BaseException | None) -> None:
        """Tells everybody how it went; whoever still waits goes on waiting."""
        told: dict[Post, list[Request]] = defaultdict(list)
        lost: list[tuple[Take, Sequence[Delivery]]] = []
        with self._condition:
            for request in batch:
                request.error = error
                if isinstance(request, Take):
                    self._flying.discard(request)
                    if self._lands_to_wait(request):
                        request.state = "standing"
                        self._standing[request.queue].append(request)
                        continue
                    request.state = "over"
                    request.found = () if error is not None else request.found
                    request.error = request.forsaken or error
                    if request.abandoned or request.forsaken:
                        lost.append((request, request.found))
                        request.found = ()
                told[request.post].append(request)
            for queue in set(self._due) - set(self._standing):
                del self._due[queue]
        for take, found in lost:
            self._untake(take, found)
        for post, requests in told.items():
            self._tell(post, requests)

    def _lands_to_wait(self, take: Take) -> bool:
        """Says whether one that was in a transaction goes on waiting."""
        return (
            take.error is None and take.patient and not take.found and take.forsaken is None and not self._stopping
        )  # fmt: skip

    def _tell(self, post: Post, requests: Sequence[Request]) -> None:
        """Wakes tasks."""

        def set_all() -> None:
            for request in requests:
                request.done.set()

        try:
            post(set_all)
        except RuntimeError:  # the event loop is gone, with all its tasks
            for request in requests:
                if isinstance(request, Take):
                    self._untake(request, request.found)


def _by_terms(batch: Sequence[Request]) -> dict[tuple[str, float, int], list[Take]]:
    """Puts those together who receive the same."""
    takes: dict[tuple[str, float, int], list[Take]] = defaultdict(list)
    for request in batch:
        if isinstance(request, Take):
            takes[request.terms].append(request)
    return takes


def _nowhere(function: Callable[[], None]) -> None:
    """Where nobody waits."""
