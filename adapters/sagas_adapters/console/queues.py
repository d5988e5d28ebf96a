"""The queues that a console was told of, and their dead letters."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import anyio

from sagas.errors import SagaError, TransportError
from sagas_adapters.console.forms import Refusal

if TYPE_CHECKING:
    from sagas.transport import DeadLetter, Queue

__all__ = ["QueueView", "Queues", "Redriven"]

logger = logging.getLogger("sagas.console")

T = TypeVar("T")

# Seconds for a broker to answer, so that one that does not keeps no page from being shown.
_PATIENCE: Final = 5.0
# Seconds for sending dead letters back, so many at a time: a browser, and what is before it, wait about a minute.
_LONGEST: Final = 20.0
_TOGETHER: Final = 100
_DIGITS: Final = 5
_MOST_LETTERS: Final = 100
_ALL: Final = 10_000


class QueueView(NamedTuple):
    """A queue as a page shows it.

    Attributes:
        number: Its place among the queues.
        name: Of the queue.
        where: Its broker, without user and password.
        letters: The oldest dead letters.
        more: Whether there are more of them.
        problem: Why they are not known, or ``""``.
    """

    number: int
    name: str
    where: str
    letters: Sequence[DeadLetter] = ()
    more: bool = False
    problem: str = ""


class Redriven(NamedTuple):
    """What became of dead letters that were to be sent back.

    Attributes:
        sent: How many were.
        more: Whether there are more of those that were meant.
        problem: Why they were not sent back, or ``""``.
    """

    sent: int
    more: bool = False
    problem: str = ""


class Queues:
    """Reads dead letters and sends them back. Each time a connection is made, so that none is left behind.

    Args:
        urls: Of the queues.
    """

    def __init__(self, urls: Collection[str]) -> None:
        self._urls = tuple(urls)

    async def views(self) -> list[QueueView]:
        """Reads all queues, side by side."""
        found = [self.named(str(number)) for number in range(len(self._urls))]

        async def read(number: int) -> None:
            try:
                letters = await self._letters(number, _MOST_LETTERS + 1)
            except Exception as error:  # noqa: BLE001 - the trouble of one queue hides no other
                found[number] = found[number]._replace(problem=_told(error))
            else:
                more = len(letters) > _MOST_LETTERS
                found[number] = found[number]._replace(letters=tuple(letters[:_MOST_LETTERS]), more=more)

        async with anyio.create_task_group() as group:
            for number in range(len(self._urls)):
                group.start_soon(read, number)
        return found

    def named(self, number: str) -> QueueView:
        """Gives a queue by its number, unread.

        Raises:
            Refusal: There is none.
        """
        if not (number.isascii() and number.isdigit() and len(number) < _DIGITS and int(number) < len(self._urls)):
            raise Refusal(404, "There is no such queue", "It may have been taken out.", back="queues",
                          back_label="To the queues")  # fmt: skip
        from sagas.transport import public_url

        url = self._urls[int(number)]
        name = dict(parse_qsl(url.rpartition("?")[2])).get("queue", "")
        return QueueView(int(number), name, public_url(url))

    async def letter(self, number: str, letter_id: str) -> DeadLetter:
        """Reads a dead letter.

        Raises:
            Refusal: There is none of this id.
            TransportError: The queue cannot be read.
        """
        for limit in (_MOST_LETTERS, _ALL):  # most are asked for from the page of the oldest
            letters = await self._letters(self.named(number).number, limit)
            found = next((letter for letter in letters if letter.id == letter_id), None)
            if found is not None:
                return found
        raise Refusal(404, "There is no such dead letter", "Somebody may have sent it back meanwhile.", back="queues",
                      back_label="To the queues")  # fmt: skip

    async def redrive(self, number: str, ids: Collection[str] | None) -> Redriven:
        """Sends dead letters back, the oldest first, for some time; ``None`` for all of them.

        Raises:
            Refusal: There is no such queue.
            TransportError: The queue cannot do that, or does not answer, and nothing was sent back.
        """
        async with self._opened(self.named(number).number) as queue:
            if ids is not None:
                return Redriven(await _answer(queue, queue.redrive(ids)))
            return await _redrive_all(queue)

    async def _letters(self, number: int, limit: int) -> Sequence[DeadLetter]:
        """Reads the oldest dead letters of a queue."""
        async with self._opened(number) as queue:
            return await _answer(queue, queue.dead_letters(limit))

    @asynccontextmanager
    async def _opened(self, number: int) -> AsyncGenerator[Queue]:
        """Opens a queue for one question.

        Raises:
            TransportError: It cannot be reached.
        """
        from sagas.transport import open_queue

        queue = open_queue(self._urls[number])
        try:
            yield queue
        finally:
            with anyio.move_on_after(_PATIENCE, shield=True):
                await queue.close()


async def _answer(queue: Queue, question: Awaitable[T]) -> T:
    """Waits for a queue's answer.

    Raises:
        TransportError: It does not come in time.
    """
    try:
        with anyio.fail_after(_PATIENCE):
            return await question
    except TimeoutError:
        text = f"the queue {queue.name} did not answer within {_PATIENCE:g} s; what it was asked for may have been done"
        raise TransportError(text) from None


async def _redrive_all(queue: Queue) -> Redriven:
    """Sends all dead letters back, some at a time, so that it is known how many went whatever happens.

    Those that come back meanwhile are left.
    """
    seen, sent, end = set[str](), 0, anyio.current_time() + _LONGEST
    while True:
        try:
            letters = await _answer(queue, queue.dead_letters(_TOGETHER))
            new = {letter.id: _what(letter) for letter in letters if _what(letter) not in seen}
            if not new or anyio.current_time() >= end:
                return Redriven(sent, more=bool(letters))
            sent += await _answer(queue, queue.redrive(new.keys()))
        except SagaError as error:
            if not sent:
                raise
            return Redriven(sent, more=True, problem=str(error))
        seen.update(new.values())


def _what(letter: DeadLetter) -> str:
    """Names a message, which may be another dead letter when it comes back."""
    message = letter.message
    return message.headers.get("ce-id") or message.dedup_id or hashlib.blake2b(message.body).hexdigest()


def _told(error: Exception) -> str:
    """Says what is wrong with a queue. What a library says may have a password in it, so that is for the log."""
    if isinstance(error, SagaError):
        return str(error)
    logger.warning("a queue cannot be read", exc_info=error)
    return f"It cannot be read ({type(error).__name__}); the log of the server tells why."
