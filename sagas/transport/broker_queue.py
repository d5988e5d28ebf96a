"""What queues of brokers have in common, so that an adapter holds only what is particular to its broker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, TypeVar, TypeVarTuple

import anyio

from sagas.errors import DeliveryExpired, SagaError, TransportClosed, TransportError
from sagas.transport.portal import AsyncioPortal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from sagas.transport.queues import Capabilities, DeadLetter, Delivery, Message

__all__ = ["AsyncioQueue", "BrokerQueue"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_UNSAID = "given back, and nobody said why"


class BrokerQueue(ABC):
    """A ``Queue`` whose client runs in the caller's event loop.

    Of each method of ``Queue`` there is one with an underscore, which does it: it finds the arguments checked and the
    queue open, may raise what it likes, and callers get a ``TransportError`` for whatever is none of ours.

    Args:
        name: See ``Queue``.
        visibility: See ``Queue``.
        max_deliveries: See ``Queue``.
        capabilities: See ``Queue``.
        place: Where the broker is, for messages; without a password.

    Attributes:
        BROKER: What it is called in messages.
        OVER: How else than by the clock a delivery ends, for messages.
    """

    BROKER: ClassVar[str]
    OVER: ClassVar[str] = ""

    def __init__(
        self, name: str, *, visibility: float, max_deliveries: int, capabilities: Capabilities, place: str = ""
    ) -> None:
        self.name = name
        self.visibility = visibility
        self.max_deliveries = max_deliveries
        self.capabilities = capabilities
        self._place = place
        self._closed = False

    # --- the protocol -------------------------------------------------------------------------------------------

    async def send(self, *messages: Message) -> None:
        """See ``Queue.send``."""
        self._check_open()
        self._admit(messages)
        await self._run(self._send, messages)

    async def receive(self, limit: int = 1, *, wait: float = 0.0) -> Sequence[Delivery]:
        """See ``Queue.receive``."""
        if limit < 1:
            raise ValueError(f"receive(limit={limit}): at least one message")
        return await self._run(self._receive, min(limit, self.capabilities.max_batch), wait)

    async def ack(self, *deliveries: Delivery) -> None:
        """See ``Queue.ack``."""
        await self._run(self._ack, deliveries)

    async def nack(self, delivery: Delivery, *, delay: float = 0.0, reason: str = "") -> None:
        """See ``Queue.nack``."""
        await self._run(self._nack, delivery, delay, reason or _UNSAID)

    async def extend(self, delivery: Delivery, seconds: float) -> None:
        """See ``Queue.extend``."""
        await self._run(self._extend, delivery, seconds)

    async def dead_letters(self, limit: int = 100) -> Sequence[DeadLetter]:
        """See ``Queue.dead_letters``."""
        return await self._run(self._dead_letters, limit)

    async def redrive(self, ids: Collection[str] | None = None) -> int:
        """See ``Queue.redrive``."""
        return await self._run(self._redrive, ids)

    async def close(self) -> None:
        """See ``Queue.close``."""
        if not self._closed:
            self._closed = True
            with anyio.CancelScope(shield=True):
                await self._shut()

    # --- what an adapter does -----------------------------------------------------------------------------------

    def _admit(self, messages: Sequence[Message]) -> None:
        """Refuses what could not be sent, before anything is."""
        self.capabilities.admit(messages, where=self._where)

    @abstractmethod
    async def _send(self, messages: Sequence[Message]) -> None: ...

    @abstractmethod
    async def _receive(self, limit: int, wait: float) -> Sequence[Delivery]: ...

    @abstractmethod
    async def _ack(self, deliveries: Sequence[Delivery]) -> None: ...

    @abstractmethod
    async def _nack(self, delivery: Delivery, delay: float, reason: str) -> None: ...

    @abstractmethod
    async def _extend(self, delivery: Delivery, seconds: float) -> None: ...

    @abstractmethod
    async def _dead_letters(self, limit: int) -> Sequence[DeadLetter]: ...

    @abstractmethod
    async def _redrive(self, ids: Collection[str] | None) -> int: ...

    @abstractmethod
    async def _disconnect(self) -> None:
        """Lets go of the broker; nothing new begins any more."""

    # --- how it is called ---------------------------------------------------------------------------------------

    async def _run(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Calls a function where the client lives; says what went wrong in words of ours.

        Raises:
            TransportClosed: The queue is closed, or was meanwhile.
            TransportError: The broker cannot be reached, or refuses something.
        """
        self._check_open()
        try:
            return await self._reach(function, *args)
        except SagaError:
            self._check_open()  # then that is why
            raise
        except Exception as error:
            self._check_open()
            raise self._failure(error) from error

    async def _reach(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Calls a function where the client lives."""
        return await function(*args)

    async def _shut(self) -> None:
        """Lets go of all that it has."""
        await self._disconnect()

    # --- words --------------------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        """Names it in messages."""
        return f"queue {self.name} at {self._place}" if self._place else f"queue {self.name}"

    @property
    def _unheard(self) -> str:
        """Why a message is given back that nobody gave back."""
        return f"not acknowledged within {self.visibility:g} s"

    def _failure(self, error: Exception) -> TransportError:
        """Says what went wrong."""
        silent = isinstance(error, TimeoutError) and not str(error)
        why = "no answer in time" if silent else str(error) or type(error).__name__
        return TransportError(
            f"{self._where}: {self.BROKER} cannot be reached, or refuses: {why}. It may have been done"
        )

    def _expired(self, receipt: str) -> DeliveryExpired:
        """Says that a delivery is over."""
        return DeliveryExpired(
            f"{self._where}: delivery {receipt} was not acknowledged within {self.visibility:g} s{self.OVER}, so the "
            "message is delivered to others, or it is dead. Nothing was changed. Extend deliveries that take longer"
        )

    def _check_open(self) -> None:
        """Refuses to go on.

        Raises:
            TransportClosed: It is closed.
        """
        if self._closed:
            raise TransportClosed(f"{self._where} is closed")


class AsyncioQueue(BrokerQueue):
    """A ``BrokerQueue`` whose client knows only asyncio: what has an underscore runs there, whoever calls."""

    def __init__(
        self, name: str, *, visibility: float, max_deliveries: int, capabilities: Capabilities, place: str = ""
    ) -> None:
        super().__init__(
            name, visibility=visibility, max_deliveries=max_deliveries, capabilities=capabilities, place=place
        )
        self._portal = AsyncioPortal()

    async def _reach(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Calls a function on asyncio."""
        return await self._portal.run(function, *args)

    async def _shut(self) -> None:
        """Disconnects on asyncio, and lets go of that."""
        try:
            await self._portal.run(self._disconnect)
        finally:
            await self._portal.close()
