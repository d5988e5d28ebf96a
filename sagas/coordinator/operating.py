"""What people can have done to a saga, with who they are and why."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic_core import PydanticSerializationError, to_json

from sagas.coordinator.checks import check_signal_name, check_text
from sagas.core.schema import check_size
from sagas.errors import PayloadError

__all__ = ["Operating"]


class Operating(ABC):
    """See the module.

    All of these write to the saga's journal who asks (``by``) and why (``reason``). With ``expected``, the ``revision``
    of the view that somebody looked at, they change nothing if the saga has moved on since: ``SagaMovedOn``.
    """

    async def signal(
        self,
        saga_id: str,
        name: str,
        payload: object = None,
        *,
        by: str = "",
        reason: str = "",
        expected: int | None = None,
    ) -> None:
        """Sends a signal to a saga, durably. It is kept until the body receives it.

        Args:
            saga_id: To whom.
            name: As in ``receive(name, …)``.
            payload: Anything pydantic can serialize.
            by: Who asks, for the journal.
            reason: Why, for the journal.
            expected: The ``revision`` of the view that was looked at.

        Raises:
            SagaNotFound: There is no such saga.
            NotApplicable: It has ended.
            SagaMovedOn: Something has happened since the revision that is expected.
            PayloadError: The payload cannot be encoded, or does not fit the ``receive`` that waits for it here.
        """
        check_signal_name(name)
        try:
            encoded = to_json(payload, bytes_mode="base64", inf_nan_mode="strings")
            check_size(encoded)
        except (PydanticSerializationError, ValueError) as error:
            raise PayloadError(f"the payload of the signal {name!r} cannot be encoded: {error}") from error
        await self._order(
            saga_id, "signal", expected=expected, name=name, payload=encoded, by=by, **_given(reason=reason)
        )

    async def cancel(self, saga_id: str, *, reason: str, by: str = "", expected: int | None = None) -> None:
        """Cancels a saga: it is undone. One that is undoing already is left as it is.

        Raises:
            SagaNotFound: There is no such saga.
            NotApplicable: It has ended, or has passed its pivot.
            SagaMovedOn: Something has happened since the revision that is expected.
        """
        check_text("reason", reason)
        await self._order(saga_id, "cancel", expected=expected, reason=reason, by=by)

    async def retry(
        self, saga_id: str, *, path: str | None = None, by: str = "", reason: str = "", expected: int | None = None
    ) -> None:
        """Tries again what halts a stuck saga, with a new budget of attempts.

        Args:
            saga_id: Which saga.
            path: Which step; all that halt it by default.
            by: Who asks, for the journal.
            reason: Why, for the journal.
            expected: The ``revision`` of the view that was looked at.

        Raises:
            SagaNotFound: There is no such saga.
            NotApplicable: It is not stuck, or not there.
            SagaMovedOn: Something has happened since the revision that is expected.
        """
        await self._order(saga_id, "retry", expected=expected, path=path, by=by, **_given(reason=reason))

    async def skip(
        self, saga_id: str, *, reason: str, path: str | None = None, by: str = "", expected: int | None = None
    ) -> None:
        """Goes on without what halts a stuck saga: the operator vouches that nothing is left to undo there.

        A forward step that is skipped counts as rejected. Arguments and errors as for ``retry``.
        """
        check_text("reason", reason)
        await self._order(saga_id, "skip", expected=expected, reason=reason, path=path, by=by)

    async def resume(self, saga_id: str, *, by: str = "", reason: str = "", expected: int | None = None) -> None:
        """Lets a parked saga go on with the code at hand.

        Raises:
            SagaNotFound: There is no such saga.
            NotApplicable: It is not stuck, or the code at hand does not fit its journal either.
            SagaMovedOn: Something has happened since the revision that is expected.
        """
        await self._order(saga_id, "resume", expected=expected, by=by, **_given(reason=reason))

    @abstractmethod
    async def _order(self, saga_id: str, kind: str, *, expected: int | None = None, **fields: object) -> None:
        """Gives an order."""


def _given(**texts: str) -> dict[str, str]:
    """Gives what somebody has said, and makes sure that it can be written.

    Raises:
        RequestError: It is no text.
    """
    for what, text in texts.items():
        if text:
            check_text(what, text)
    return {what: text for what, text in texts.items() if text}
