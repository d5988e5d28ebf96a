"""Each contract finds the store, transport or queue that breaks it, and says what is wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.testing import mutants

pytest_plugins = ["pytester"]

# Which test of the contract finds it.
STORES = {
    "ClaimsWithoutKeepingOthersAway": "what_one_has_claimed_is_kept_from_others_for_a_while",
    "ForgetsFencing": "appending_where_a_row_stands_fences_that_saga_and_no_other",
    "ForgetsTheLastRow": "what_was_committed_is_read_back_as_it_was",
    "GivesPermitsToAll": "no_more_permits_are_held_than_there_are",
    "LetsLeasesLastForEver": "a_lease_holds_until_it_expires",
    "LosesMailOfTheFenced": "mail_that_a_fenced_record_took_into_account_stays_for_the_new_owner",
    "MovesSchedulesBlindly": "it_moves_only_from_where_it_was_seen",
    "NeverMissesARecord": "what_is_gone_or_another_record_is_lost",
    "OnlySaysThatItAnnounces": "announcements_are_heard_or_nobody_listens",
    "PurgesWhenItShouldOnlyCount": "a_dry_run_counts_and_changes_nothing",
    "TellsNobodyOfLocks": "who_asks_first_holds_a_lock_at_once",
}
TRANSPORTS = {
    "AttemptsBeforeItAsks": "what_may_have_acted_is_not_attempted_again_before_its_probe_was_asked",
    "CallsAFailedUndoDone": "an_undo_that_fails_is_not_done_and_can_be_tried_again",
    "CallsDoubtAFailure": "an_exception_leaves_it_in_doubt_and_another_attempt_is_made",
    "ForgetsWhatItHasUndone": "what_comes_after_its_undo_does_not_act",
    "GivesAnswersToOthers": "answers_find_those_who_asked",
    "IgnoresDeadlines": "nothing_is_begun_after_its_deadline",
    "LetsAnUndoOvertake": "an_undo_does_not_overtake_its_action",
    "LosesTheFieldsOfRejections": "a_rejection_comes_back_as_it_was_raised",
    "RunsDuplicatesTwice": "a_duplicate_gets_the_first_result",
    "TakesAnyArguments": "a_key_that_comes_with_other_arguments_is_an_error",
    "UndoesWhatNeverWas": "an_undo_without_an_action_does_nothing_and_keeps_the_action_away",
}
QUEUES = {
    "AcknowledgesForOthers": "a_delivery_that_is_over_is_nobodys",
    "CountsNothing": "what_was_delivered_too_often_is_not_delivered_any_more",
    "DeliversAtOnce": "a_delayed_message_comes_when_it_is_due_or_is_refused",
    "DoesNotWait": "an_empty_queue_gives_nothing_after_the_wait",
    "ForgetsItsGroups": "a_group_waits_for_the_message_that_somebody_holds",
    "HidesNothing": "consumers_side_by_side_never_hold_the_same_message",
    "KeepsDuplicates": "a_duplicate_is_dropped_or_its_id_is_refused",
    "LosesHeaders": "what_is_sent_is_received_as_it_was",
    "LosesWhatIsSentToTheOneWhoWaits": "whoever_stops_waiting_takes_nothing_along",
    "LosesWhatIsGivenBack": "what_is_given_back_is_delivered_again",
    "LosesWhatIsRedriven": "dead_letters_can_be_sent_back",
    "LosesWhatItsConsumerForgets": "whatever_consumers_do_no_message_is_lost",
    "OnlyLooksWhenItIsAsked": "whoever_waits_gets_what_is_visible_again",
    "PretendsToDelay": "a_delayed_message_comes_when_it_is_due_or_is_refused",
    "PretendsToExtend": "a_delivery_can_be_held_for_longer_or_that_is_refused",
    "TripsOverWhatHasEnded": "a_delivery_may_end_while_something_else_becomes_of_it",
    "SendsBeforeItLooks": "a_message_that_is_too_large_fails_before_anything_is_sent",
}
QUIET = ("-p", "no:xdist", "-p", "no:cacheprovider")


def _write(pytester: pytest.Pytester, name: str) -> None:
    pytester.makepyfile(test_it=f"from tests.testing.mutants import {name} as TestIt")


@pytest.mark.parametrize(("name", "found_by"), [*STORES.items(), *TRANSPORTS.items(), *QUEUES.items()])
def test_what_breaks_a_promise_fails_the_test_of_it(pytester: pytest.Pytester, name: str, found_by: str) -> None:
    """By a failure, and not by an error on the way."""
    _write(pytester, name)
    run = pytester.inline_run(*QUIET, "-k", f"test_{found_by}")
    passed, skipped, failed = run.countoutcomes()
    assert (passed, skipped) == (0, 0)
    assert failed >= 1
    reports = run.getreports("pytest_runtest_logreport")
    assert {report.when for report in reports if report.failed} == {"call"}


@pytest.mark.parametrize("name", ["OnStore", "OnTransport", "OnQueue"])
def test_what_keeps_its_promises_passes_the_same_tests(pytester: pytest.Pytester, name: str) -> None:
    """So that it is the breakage that was found."""
    _write(pytester, name)
    found_by = {**STORES, **TRANSPORTS, **QUEUES}.values()
    passed, skipped, failed = pytester.inline_run(*QUIET, "-k", " or ".join(found_by)).countoutcomes()
    assert passed >= 9
    assert (skipped, failed) == (0, 0)


def test_every_mutant_is_run() -> None:
    of_ours = [kind for kind in vars(mutants).values() if getattr(kind, "__module__", "") == mutants.__name__]
    known = {kind.__name__ for kind in of_ours}
    assert known - {"OnStore", "OnTransport", "OnQueue", "_Blind"} == {*STORES, *TRANSPORTS, *QUEUES}


def test_a_failure_shows_the_values_where_the_contract_is_an_installed_package(pytester: pytest.Pytester) -> None:
    """Pytest shows them only for modules that it was told of."""
    pytester.makepyfile(
        """
        import pytest
        from sagas.stores.memory import MemoryStore
        from sagas.testing.contracts import StoreContract

        class Broken(MemoryStore):
            def lost(self, last):
                return {"surprise"}

        class TestBroken(StoreContract):
            @pytest.fixture
            def connect(self):
                store = Broken()
                return lambda: store
        """
    )
    result = pytester.runpytest_subprocess(*QUIET, "-k", "test_what_is_there_as_it_was_is_not_lost")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*AssertionError: assert {'surprise'} == set()*", "*Extra items in the left set*"])


@pytest.mark.parametrize(
    ("contract", "fixture", "needs"),
    [
        ("StoreContract", "connect", "a function without parameters that opens another store"),
        ("TransportContract", "transport", "connected to something which serves"),
        ("QueueContract", "connect", "an async function without parameters that opens another connection"),
    ],
)
def test_a_contract_says_which_fixture_it_wants(
    pytester: pytest.Pytester, contract: str, fixture: str, needs: str
) -> None:
    pytester.makepyfile(test_it=f"from sagas.testing.contracts import {contract} as TestIt")
    run = pytester.inline_run(*QUIET, "--maxfail=1")
    (error, *_) = [report for report in run.getreports("pytest_runtest_logreport") if report.failed]
    assert f"needs a fixture `{fixture}`: " in error.longreprtext
    assert needs in error.longreprtext


def test_without_pytest_the_library_works_and_the_contracts_say_what_is_missing() -> None:
    code = "import sys; sys.modules['pytest'] = None; import sagas, sagas.testing; import sagas.testing.contracts"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (
        "ModuleNotFoundError: sagas.testing.contracts are tests for pytest: pip install 'sagakit[testing]'"
        in done.stderr
    )
