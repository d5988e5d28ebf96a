"""The queues that a console was told of, and their dead letters."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import anyio

from sagas.errors import SagaError, TransportError
from sagas_adapters.console.forms import Refusal

if TYPE_CHECKING:
    from sagas.transport import DeadLetter, Queue

__all__ = ["QueueView", "Queues"]

# Seconds for a broker to answer, so that one that does not keeps no page from being shown.
_PATIENCE: Final = 5.0
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
                known = isinstance(error, SagaError)
                problem = str(error) if known else f"{type(error).__name__}: {error}"
                found[number] = found[number]._replace(problem=problem)
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
        if not (number.isascii() and number.isdigit() and int(number[:4]) < len(self._urls)):
            raise Refusal(404, "There is no such queue", "It may have been taken out.", back="queues",
                          back_label="To the queues")  # fmt: skip
        parts = urlsplit(self._urls[int(number[:4])])
        name = dict(parse_qsl(parts.query)).get("queue", "")
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        return QueueView(int(number[:4]), name, where)

    async def letter(self, number: str, letter_id: str) -> DeadLetter:
        """Reads a dead letter.

        Raises:
            Refusal: There is none of this id.
            TransportError: The queue cannot be read.
        """
        letters = await self._letters(self.named(number).number, _ALL)
        found = next((letter for letter in letters if letter.id == letter_id), None)
        if found is None:
            raise Refusal(404, "There is no such dead letter", "Somebody may have sent it back meanwhile.",
                          back="queues", back_label="To the queues")  # fmt: skip
        return found

    async def redrive(self, number: str, ids: Collection[str] | None) -> int:
        """Sends dead letters back; ``None`` for all of them.

        Returns:
            How many.

        Raises:
            Refusal: There is no such queue.
            TransportError: The queue cannot do that, or does not answer.
        """
        async with self._opened(self.named(number).number) as queue:
            return await queue.redrive(ids)

    async def _letters(self, number: int, limit: int) -> Sequence[DeadLetter]:
        """Reads the oldest dead letters of a queue."""
        async with self._opened(number) as queue:
            return await queue.dead_letters(limit)

    @asynccontextmanager
    async def _opened(self, number: int) -> AsyncGenerator[Queue]:
        """Opens a queue for one question.

        Raises:
            TransportError: It does not answer in time, or cannot be reached.
        """
        from sagas.transport import open_queue

        queue = open_queue(self._urls[number])
        try:
            with anyio.fail_after(_PATIENCE):
                yield queue
        except TimeoutError:
            raise TransportError(f"the queue {queue.name} did not answer within {_PATIENCE:g} s") from None
        finally:
            with anyio.move_on_after(_PATIENCE, shield=True):
                await queue.close()
