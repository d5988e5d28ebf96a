"""What every transport does, with the participant at its other end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import orjson
import pytest
from anyio import to_thread

from sagas.core.failures import revive
from sagas.errors import KeyReused, TransportClosed
from sagas.testing.contracts._participant import OutOfStock, Participant
from sagas.transport.port import StepReply, StepRequest, Transport

__all__ = ["Participant", "TransportContract"]

# Seconds within which whatever should happen has happened.
_PATIENCE = 30.0


def action(key: str, step: str = "reserve", **more: Any) -> StepRequest:
    """A request for an action."""
    arguments = more.pop("arguments", b'{"item":"lamp"}')
    return StepRequest(
        kind="action", step=step, saga_id="order-1", path="3", idempotency_key=key, arguments=arguments, **more
    )


def undo(key: str, step: str = "reserve", **more: Any) -> StepRequest:
    """A request to undo an action."""
    arguments = more.pop("arguments", b'{"item":"lamp"}')
    return StepRequest(
        kind="undo", step=step, saga_id="order-1", path="3", idempotency_key=f"{key}:undo", undoes=key,
        arguments=arguments, **more,
    )  # fmt: skip


def probe(key: str, step: str = "break_off") -> StepRequest:
    """A question about an action."""
    return StepRequest(
        kind="probe", step=step, saga_id="order-1", path="3", idempotency_key=key, arguments=b'{"item":"lamp"}'
    )


class TransportContract:
    """Give it the fixture ``transport``: connected to something that serves ``participant.steps`` in this process."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def participant(self) -> Participant:
        """The steps to be served, and what they have done."""
        return Participant()

    @pytest.fixture
    def transport(self, participant: Participant) -> Transport:
        """A transport to a new participant that serves ``participant.steps``; it knows no request yet."""
        raise NotImplementedError(
            f"{type(self).__name__} needs a fixture `transport`: one that is connected to something which serves "
            "`participant.steps` (another fixture) in this process. See docs/how-to/write-your-own.md"
        )

    # --- actions ------------------------------------------------------------------------------------------------

    async def test_an_action_acts_once_and_its_result_comes_back(
        self, transport: Transport, participant: Participant
    ) -> None:
        assert await transport.call(action("k")) == StepReply.succeeded(b'"ticket 1"')
        assert participant.acted == ["k"]

    async def test_a_duplicate_gets_the_first_result(self, transport: Transport, participant: Participant) -> None:
        """However often, and whichever attempt it says to be."""
        first = await transport.call(action("k"))
        for attempt in (1, 2, 3):
            again = action("k", attempt=attempt, deadline=time.time() + 60 * attempt, headers={"traceparent": "x"})
            assert await transport.call(again) == first
        assert participant.acted == ["k"]

    async def test_another_key_is_another_request(self, transport: Transport, participant: Participant) -> None:
        """Though everything else is the same."""
        replies = [await transport.call(action(key)) for key in ("k", "K", "k ", "k:1")]
        assert [reply.payload for reply in replies] == [f'"ticket {number}"'.encode() for number in (1, 2, 3, 4)]
        assert participant.acted == ["k", "K", "k ", "k:1"]

    async def test_a_key_that_comes_with_other_arguments_is_an_error(
        self, transport: Transport, participant: Participant
    ) -> None:
        """Or for another step. It says so, and does nothing; the first request is still answered."""
        first = await transport.call(action("k"))
        for other in (action("k", arguments=b'{"item":"desk"}'), action("k", "decline")):
            with pytest.raises(KeyReused, match="'k'"):
                await transport.call(other)
        assert participant.acted == ["k"]
        assert len(participant.contexts) == 1
        assert await transport.call(action("k")) == first

    async def test_what_is_sent_arrives_to_the_last_byte(self, transport: Transport) -> None:
        """Text in any script, bytes of any value, and more than fits into a packet."""
        text = "ä€😀\n\x00'\"" * 20_000
        arguments = orjson.dumps({"text": text, "data": "AP8="})
        reply = await transport.call(action("k", "echo", arguments=arguments))
        assert reply.outcome == "succeeded"
        assert orjson.loads(reply.payload or b"") == [text, "AP8="]

    async def test_a_step_knows_what_it_is_part_of(self, transport: Transport, participant: Participant) -> None:
        """As if it ran beside the coordinator."""
        deadline = float(int(time.time()) + 60)
        await transport.call(action("k", attempt=4, deadline=deadline))
        await transport.call(undo("k", result=b'"ticket 1"'))
        acting, undoing = participant.contexts
        assert (acting.saga_id, acting.step, acting.path) == ("order-1", "reserve", "3")
        assert (acting.idempotency_key, acting.undoes, acting.attempt) == ("k", None, 4)
        assert acting.deadline is not None
        assert acting.deadline <= deadline
        assert (undoing.idempotency_key, undoing.undoes) == ("k:undo", "k")

    async def test_answers_find_those_who_asked(self, transport: Transport, participant: Participant) -> None:
        """Side by side, each caller gets the answer to its own request."""
        replies: dict[str, StepReply] = {}

        async def ask(text: str) -> None:
            arguments = orjson.dumps({"text": text, "data": ""})
            replies[text] = await transport.call(action(f"key {text}", "echo", arguments=arguments))

        with anyio.fail_after(_PATIENCE):
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(ask, str(number))
        assert {text: orjson.loads(reply.payload or b"") for text, reply in replies.items()} == {
            str(number): [str(number), ""] for number in range(50)
        }
        assert len(participant.acted) == 50

    # --- failures -----------------------------------------------------------------------------------------------

    async def test_a_rejection_comes_back_as_it_was_raised(self, transport: Transport) -> None:
        """With its type and fields, so that the body gets the same exception."""
        reply = await transport.call(action("k", "decline"))
        assert reply.outcome == "rejected"
        assert reply.error is not None
        again = revive(reply.error, (OutOfStock,), step="decline", path="3", doubt=False)
        assert isinstance(again, OutOfStock)
        assert (again.item, again.left, again.args) == ("lamp", 3, ("lamp", 3))

    async def test_a_duplicate_of_what_was_rejected_gets_the_rejection(
        self, transport: Transport, participant: Participant
    ) -> None:
        """The step is not asked again."""
        first = await transport.call(action("k", "decline"))
        assert await transport.call(action("k", "decline", attempt=2)) == first
        assert len(participant.contexts) == 1

    async def test_an_exception_leaves_it_in_doubt_and_another_attempt_is_made(
        self, transport: Transport, participant: Participant
    ) -> None:
        """It may have acted, so it is not said to have failed; and it is not remembered as done."""
        for attempt in (1, 2):
            reply = await transport.call(action("k", "lose", attempt=attempt))
            assert reply.outcome == "in_doubt"
            assert reply.error is not None
            assert "lost the connection after lamp" in reply.error.message
            assert reply.error.fields is None
        assert participant.acted == ["k", "k"]

    async def test_what_may_have_acted_is_not_attempted_again_before_its_probe_was_asked(
        self, transport: Transport, participant: Participant
    ) -> None:
        """Whoever repeats a request need not know of the probe."""
        assert (await transport.call(action("k", "break_off"))).outcome == "in_doubt"
        for attempt in (2, 3):
            assert await transport.call(action("k", "break_off", attempt=attempt)) == StepReply.succeeded(
                b'"found lamp"'
            )
        assert participant.acted == ["k"]

    async def test_an_atomic_step_that_fails_is_not_in_doubt(
        self, transport: Transport, participant: Participant
    ) -> None:
        """And may be attempted again."""
        for attempt in (1, 2):
            reply = await transport.call(action("k", "refuse", attempt=attempt))
            assert reply.outcome == "failed"
            assert reply.error is not None
            assert "lamp is not to be had" in reply.error.message
        assert len(participant.contexts) == 2

    async def test_what_the_participant_does_not_know_fails(self, transport: Transport) -> None:
        """With the name of the step, so that somebody can deploy it."""
        reply = await transport.call(action("k", "no_such_step"))
        assert reply.outcome == "failed"
        assert reply.error is not None
        assert "no_such_step" in reply.error.message

    @pytest.mark.parametrize("arguments", [b'{"item":1}', b"{}", b'{"item":', b"[]"])
    async def test_arguments_that_do_not_fit_fail(
        self, transport: Transport, participant: Participant, arguments: bytes
    ) -> None:
        """Before anything is done."""
        reply = await transport.call(action("k", arguments=arguments))
        assert reply.outcome == "failed"
        assert reply.error is not None
        assert participant.contexts == []

    async def test_nothing_is_begun_after_its_deadline(self, transport: Transport, participant: Participant) -> None:
        """Nobody waits for it any more. Whoever sent it may not know whether it arrived."""
        reply = await transport.call(action("k", deadline=time.time() - 5.0))
        assert reply.outcome in {"failed", "in_doubt"}
        assert participant.acted == []

    # --- undoing ------------------------------------------------------------------------------------------------

    async def test_an_undo_runs_once_with_the_result(self, transport: Transport, participant: Participant) -> None:
        """Its duplicates do nothing."""
        done = await transport.call(action("k"))
        for attempt in (1, 2, 3):
            reply = await transport.call(undo("k", result=done.payload, attempt=attempt))
            assert reply.outcome == "succeeded"
        assert participant.undone == [("k", "ticket 1")]

    async def test_an_undo_that_fails_is_not_done_and_can_be_tried_again(
        self, transport: Transport, participant: Participant
    ) -> None:
        """Nothing is ever called undone that was not."""
        participant.stumbles = 2
        done = await transport.call(action("k"))
        replies = [await transport.call(undo("k", result=done.payload, attempt=attempt)) for attempt in (1, 2, 3)]
        assert [reply.outcome == "succeeded" for reply in replies] == [False, False, True]
        assert {reply.outcome for reply in replies[:2]} <= {"failed", "in_doubt"}
        assert replies[0].error is not None
        assert "the shelf is locked" in replies[0].error.message
        assert participant.undone == [("k", "ticket 1")]

    async def test_an_undo_of_what_is_in_doubt_runs_without_a_result(
        self, transport: Transport, participant: Participant
    ) -> None:
        """It may have acted."""
        await transport.call(action("k", "break_off"))
        assert (await transport.call(undo("k", "break_off"))).outcome == "succeeded"
        assert participant.undone == [("k", None)]

    async def test_an_undo_without_an_action_does_nothing_and_keeps_the_action_away(
        self, transport: Transport, participant: Participant
    ) -> None:
        """A late action never overtakes its undo."""
        for _ in range(2):
            assert (await transport.call(undo("k"))).outcome == "succeeded"
        for attempt in (1, 2):
            assert await transport.call(action("k", attempt=attempt)) == StepReply.fenced()
        assert (participant.acted, participant.undone) == ([], [])

    async def test_an_undo_of_what_was_rejected_does_nothing(
        self, transport: Transport, participant: Participant
    ) -> None:
        await transport.call(action("k", "decline"))
        assert (await transport.call(undo("k", "decline"))).outcome == "succeeded"
        assert participant.undone == []

    async def test_what_comes_after_its_undo_does_not_act(self, transport: Transport, participant: Participant) -> None:
        """A duplicate of what had succeeded still gets its result, one of what was in doubt is fenced."""
        done = await transport.call(action("k"))
        await transport.call(action("d", "lose"))
        await transport.call(undo("k", result=done.payload))
        await transport.call(undo("d", "lose"))
        assert await transport.call(action("k", attempt=2)) in {done, StepReply.fenced()}
        assert await transport.call(action("d", "lose", attempt=2)) == StepReply.fenced()
        assert participant.acted == ["k", "d"]

    async def test_an_undo_that_comes_with_another_result_is_an_error(
        self, transport: Transport, participant: Participant
    ) -> None:
        """Its key was used for another request."""
        await transport.call(action("k"))
        await transport.call(undo("k", result=b'"ticket 1"'))
        with pytest.raises(KeyReused):
            await transport.call(undo("k", result=b'"ticket 2"'))
        assert participant.undone == [("k", "ticket 1")]

    async def test_an_undo_of_a_step_without_a_compensator_fails(self, transport: Transport) -> None:
        """It is never called undone."""
        arguments = b'{"text":"x","data":""}'
        await transport.call(action("k", "echo", arguments=arguments))
        assert (await transport.call(undo("k", "echo", arguments=arguments))).outcome == "failed"

    # --- side by side -------------------------------------------------------------------------------------------

    async def test_a_duplicate_of_what_is_at_work_does_not_act(
        self, transport: Transport, participant: Participant
    ) -> None:
        """It is told to come again, or waits for the first one's result."""
        replies = await self._while_held(transport, participant, lambda: action("k", "hold", attempt=2))
        assert replies[0] == StepReply.succeeded(b'"ticket 1"')
        assert replies[1] in {StepReply.running(), replies[0]}
        assert participant.acted == ["k"]
        assert await transport.call(action("k", "hold", attempt=3)) == replies[0]

    async def test_an_undo_does_not_overtake_its_action(self, transport: Transport, participant: Participant) -> None:
        """While the action is at work, the undo is told to come again, or waits."""
        replies = await self._while_held(transport, participant, lambda: undo("k", "hold", result=b'"ticket 1"'))
        assert replies[1].outcome in {"running", "succeeded"}
        if replies[1].outcome == "running":
            assert participant.undone == []
            await transport.call(undo("k", "hold", result=b'"ticket 1"'))
        assert participant.log == ["k", "-k"]
        assert participant.undone == [("k", "ticket 1")]

    async def test_what_acts_goes_on_when_its_caller_gives_up(
        self, transport: Transport, participant: Participant
    ) -> None:
        """Whoever asks again gets its result."""
        with anyio.fail_after(_PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(transport.call, action("k", "hold"))
                await to_thread.run_sync(participant.held.wait, _PATIENCE)
                group.cancel_scope.cancel()
                participant.release.set()
            while (reply := await transport.call(action("k", "hold", attempt=2))).outcome == "running":  # noqa: ASYNC110 - its answer is what is waited for
                await anyio.sleep(0.005)
        assert reply == StepReply.succeeded(b'"ticket 1"')
        assert participant.acted == ["k"]

    async def _while_held(
        self, transport: Transport, participant: Participant, second: Callable[[], StepRequest]
    ) -> list[StepReply]:
        """Sends a request while an action is at work; lets that go on when the other has had its time."""
        replies: dict[int, StepReply] = {}

        async def send(number: int, request: StepRequest) -> None:
            replies[number] = await transport.call(request)

        with anyio.fail_after(_PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(send, 0, action("k", "hold"))
                await to_thread.run_sync(participant.held.wait, _PATIENCE)
                group.start_soon(send, 1, second())
                with anyio.move_on_after(0.2):  # one that waits for the first cannot be waited for
                    while 1 not in replies:  # noqa: ASYNC110 - its reply is what is waited for
                        await anyio.sleep(0.005)
                participant.release.set()
        return [replies[0], replies[1]]

    # --- probes -------------------------------------------------------------------------------------------------

    async def test_a_probe_finds_what_acted(self, transport: Transport, participant: Participant) -> None:
        """Of what is in doubt, with the step's own probe."""
        await transport.call(action("k", "break_off"))
        assert await transport.call(probe("k")) == StepReply.succeeded(b'"found lamp"')
        assert participant.acted == ["k"]

    async def test_a_probe_finds_that_nothing_has_acted(self, transport: Transport, participant: Participant) -> None:
        """And does not keep the action away."""
        assert await transport.call(probe("k")) == StepReply.not_applied()
        assert (await transport.call(action("k", "break_off"))).outcome == "in_doubt"
        assert participant.acted == ["k"]

    async def test_the_barrier_answers_for_a_step_without_a_probe(self, transport: Transport) -> None:
        """It knows what succeeded."""
        done = await transport.call(action("k"))
        assert await transport.call(probe("k", "reserve")) == done

    # --- closing ------------------------------------------------------------------------------------------------

    async def test_a_closed_transport_says_so(self, transport: Transport, participant: Participant) -> None:
        """Closing it twice does no harm."""
        await transport.close()
        await transport.close()
        with pytest.raises(TransportClosed):
            await transport.call(action("k"))
        assert participant.acted == []
