"""The shortest way to a participant: in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.errors import TransportClosed

if TYPE_CHECKING:
    from sagas.transport.port import Beat, Participant, StepReply, StepRequest

__all__ = ["LocalTransport"]


class LocalTransport:
    """Takes requests to a participant in this process and this event loop.

    For tests, and for a service that runs the sagas and serves some of their steps itself.

    Args:
        participant: Such as a ``Worker``; whoever made it closes it.
    """

    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        self._closed = False

    async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
        """See ``Transport.call``."""
        if self._closed:
            raise TransportClosed(f"step {request.step} was not sent: this transport is closed")
        return await self._participant.perform(request, beat=beat)

    async def close(self) -> None:
        """See ``Transport.close``."""
        self._closed = True
