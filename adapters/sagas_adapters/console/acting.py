"""The pages that ask once more before something is done, and then do it. They need no script in the browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import orjson

from sagas.errors import RequestError, SagaNotFound
from sagas_adapters.console.deeds import DEEDS, concerned, impossible
from sagas_adapters.console.forms import Refusal
from sagas_adapters.console.rendering import address

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from sagas_adapters.console.frame import Frame
    from sagas_adapters.console.queues import Redriven
    from sagas_adapters.console.visitors import Visitor

__all__ = ["Acting"]

_Endpoint = Callable[["Request"], Awaitable["Response"]]
_LONGEST_REASON: Final = 2000
_MOST_TOGETHER: Final = 500


class Acting:
    """The pages.

    Args:
        frame: Around them.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def routes(self) -> list[tuple[str, _Endpoint, _Endpoint]]:
        """Gives each page's path, what asks, and what does."""
        return [
            ("act", self.ask, self.act),
            ("act-all", self.ask_for_all, self.act_on_all),
            ("redrive", self.ask_to_redrive, self.redrive),
            ("schedule-act", self.ask_about_schedule, self.change_schedule),
        ]

    # --- one saga -----------------------------------------------------------------------------------------------

    async def ask(self, request: Request) -> Response:
        """Asks whether something is to be done to a saga."""
        visitor = await self._frame.admit(request, to_act=True)
        # How the saga stands, and why, is not for a link to say.
        return await self._confirm(
            request, visitor, {name: request.query_params.get(name, "") for name in ("id", "do", "path")}
        )

    async def _confirm(
        self, request: Request, visitor: Visitor, given: dict[str, str], *, problem: str = ""
    ) -> Response:
        """Shows the form, with what was filled in."""
        do, path = given.get("do", ""), given.get("path", "")
        _known(do)
        saga = await self._frame.reading.standing(given.get("id", ""))
        why_not = "" if problem else impossible(saga, do, path)
        if why_not:
            raise _conflict(saga.id, why_not)
        filled = {name: given.get(name, "") for name in ("signal", "payload", "reason")}
        if len(saga.signals) == 1 and "signal" not in given:
            filled["signal"] = saga.signals[0].name
        return self._frame.page(
            request, visitor, "act.html", heading=DEEDS[do].label, status=422 if problem else 200, deed=DEEDS[do],
            do=do, path=path, problem=problem, given=filled, concerned=concerned(saga, path), saga=saga,
            stood=given.get("status", saga.status), expected=given.get("expected", saga.revision),
        )  # fmt: skip

    async def act(self, request: Request) -> Response:
        """Does it, if the saga stands as the form has it."""
        frame = self._frame
        visitor = await frame.admit(request, to_act=True)
        given = await frame.form(request, visitor)
        do, saga_id = given.get("do", ""), given.get("id", "")
        _known(do)
        if not saga_id:
            raise Refusal(400, "Which saga?", "The form lacks its id.")
        problem = _lacking(do, given)
        if problem:
            return await self._confirm(request, visitor, given, problem=problem)
        try:
            before = await frame.reading.act(do, saga_id, given, visitor.name)
        except SagaNotFound:
            raise
        except RequestError as error:
            raise _conflict(saga_id, error) from error
        return _see(address("saga", id=saga_id, done=do, since=before))

    # --- all of a group -----------------------------------------------------------------------------------------

    async def ask_for_all(self, request: Request) -> Response:
        """Asks whether something is to be done to all sagas that are stuck for the same cause."""
        visitor = await self._frame.admit(request, to_act=True)
        return await self._confirm_all(request, visitor, dict(request.query_params))

    async def _confirm_all(
        self, request: Request, visitor: Visitor, given: dict[str, str], *, problem: str = ""
    ) -> Response:
        """Shows the form, with the sagas as they stand now."""
        do = given.get("do", "")
        _for_all(do)
        told = await self._frame.reading.group(given.get("cause", ""))
        return self._frame.page(
            request, visitor, "act_all.html", heading=f"{DEEDS[do].label} all", status=422 if problem else 200,
            deed=DEEDS[do], do=do, problem=problem, reason=given.get("reason", ""), **told,
        )  # fmt: skip

    async def act_on_all(self, request: Request) -> Response:
        """Does it to those that the form has, each if it stands as it did."""
        frame = self._frame
        visitor = await frame.admit(request, to_act=True)
        fields = await frame.fields(request, visitor)
        given, members = dict(fields), [value for name, value in fields if name == "saga"]
        do = given.get("do", "")
        _for_all(do)
        _refuse_many(members)
        problem = _lacking(do, given)
        if problem:
            return await self._confirm_all(request, visitor, given, problem=problem)
        reason = given.get("reason", "").strip()
        outcomes = await frame.reading.act_on_all(do, members, reason, visitor.name)
        refused = [outcome for outcome in outcomes if outcome.problem]
        if not refused and outcomes:
            return _see(address("stuck", done=len(outcomes)))
        return frame.page(
            request, visitor, "acted.html", heading=f"{DEEDS[do].label}: {len(outcomes) - len(refused)} of "
            f"{len(outcomes)}", status=409, outcomes=outcomes, done=len(outcomes) - len(refused),
        )  # fmt: skip

    # --- dead letters -------------------------------------------------------------------------------------------

    async def ask_to_redrive(self, request: Request) -> Response:
        """Asks whether dead letters are to be sent back."""
        visitor = await self._frame.admit(request, to_act=True)
        every, letters = _letters(request.query_params.multi_items())
        queue = self._frame.reading.queues.named(request.query_params.get("queue", ""))
        heading = "Send dead letters back"
        return self._frame.page(
            request, visitor, "redrive.html", heading=heading, queue=queue, letters=letters, every=every
        )

    async def redrive(self, request: Request) -> Response:
        """Sends them back."""
        visitor = await self._frame.admit(request, to_act=True)
        fields = await self._frame.fields(request, visitor)
        every, letters = _letters(fields)
        done = await self._frame.reading.queues.redrive(dict(fields).get("queue", ""), None if every else letters)
        if done.problem:
            raise _interrupted(done)
        return _see(address("queues", done=done.sent, more="yes" if done.more else ""))

    # --- schedules ----------------------------------------------------------------------------------------------

    async def ask_about_schedule(self, request: Request) -> Response:
        """Asks whether a schedule is to be paused or resumed."""
        visitor = await self._frame.admit(request, to_act=True)
        name, do = request.query_params.get("name", ""), _schedule_deed(request.query_params.get("do", ""))
        await self._frame.reading.refuse_done(name, do)
        heading = f"{do.capitalize()} the schedule {name}"
        return self._frame.page(request, visitor, "schedule_act.html", heading=heading, name=name, do=do)

    async def change_schedule(self, request: Request) -> Response:
        """Pauses or resumes it."""
        visitor = await self._frame.admit(request, to_act=True)
        given = await self._frame.form(request, visitor)
        do = _schedule_deed(given.get("do", ""))
        await self._frame.reading.change_schedule(given.get("name", ""), do)
        return _see(address("schedules", done=do))


def _see(where: str) -> Response:
    """Sends the browser to another page."""
    from starlette.responses import Response

    return Response(status_code=303, headers={"Location": where})


def _known(do: str) -> None:
    """Refuses what nobody can do.

    Raises:
        Refusal: See above.
    """
    if do not in DEEDS:
        raise Refusal(400, "This cannot be done", f"There are {', '.join(DEEDS)}.")


def _for_all(do: str) -> None:
    """Refuses what cannot be done to several at once.

    Raises:
        Refusal: See above.
    """
    if do not in ("retry", "skip", "resume"):
        raise Refusal(400, "This cannot be done to all", "There are retry, skip and resume.", back="stuck",
                      back_label="To what is stuck")  # fmt: skip


def _refuse_many(members: list[str]) -> None:
    """Refuses more than is done together.

    Raises:
        Refusal: See above.
    """
    if len(members) > _MOST_TOGETHER:
        text = f"Nothing was done: these are {len(members)} sagas, and at most {_MOST_TOGETHER} are acted on together."
        raise Refusal(413, "These are too many at once", text, back="stuck", back_label="To what is stuck")


def _schedule_deed(do: str) -> str:
    """Gives what is to be done to a schedule.

    Raises:
        Refusal: It is neither.
    """
    if do not in ("pause", "resume"):
        raise Refusal(400, "This cannot be done", "A schedule is paused or resumed.", back="schedules")
    return do


def _letters(fields: list[tuple[str, str]]) -> tuple[bool, list[str]]:
    """Gives whether all dead letters are meant, or else which.

    Raises:
        Refusal: None are.
    """
    every = ("all", "yes") in fields
    letters = [] if every else [value for name, value in fields if name == "letter"]
    if not every and not letters:
        raise Refusal(400, "Which dead letters?", "None was chosen, and nothing was done.", back="queues",
                      back_label="To the queues")  # fmt: skip
    return every, letters


def _lacking(do: str, given: dict[str, str]) -> str:
    """Says what a form lacks, or ``""``."""
    reason = given.get("reason", "").strip()
    if DEEDS[do].reason == "needed" and not reason:
        return "Say why, for whoever reads the journal later."
    if len(reason) > _LONGEST_REASON:
        return f"A reason may have {_LONGEST_REASON} characters."
    if do == "signal":
        if not given.get("signal", "").strip():
            return "A signal has a name."
        try:
            orjson.loads(given.get("payload", "").strip() or "null")
        except orjson.JSONDecodeError as error:
            return f"What the signal carries is no JSON: {error}. Texts stand in quotes."
    return ""


def _interrupted(done: Redriven) -> Refusal:
    """Makes the answer to what went well only for a while."""
    text = f"{done.sent} were sent back, and more are left: {done.problem}"
    return Refusal(502, "Not all dead letters were sent back", text, back="queues", back_label="To the queues")


def _conflict(saga_id: str, error: Exception | str) -> Refusal:
    """Makes the answer to what the saga does not allow now."""
    text = f"Nothing was done: {error}"
    return Refusal(409, "The saga does not allow this now", text, back=address("saga", id=saga_id),
                   back_label="Look at the saga again")  # fmt: skip
