"""Which step a saga's row blames."""

from __future__ import annotations

import pytest

from sagas.coordinator.blame import blamed


@pytest.mark.parametrize(
    ("error", "step", "path", "text"),
    [
        ("reserve (1): OSError: no", "reserve", "1", "OSError: no"),
        ("send mail (2:0.1): OSError: a (3): b", "send mail", "2:0.1", "OSError: a (3): b"),
        ("3:1: KeyError: 'x'", None, "3:1", "KeyError: 'x'"),
        ("StepFailed: step charge (2) failed: builtins:ValueError: no", "charge", "2", "builtins:ValueError: no"),
        ("StepInDoubt: step charge (2) is in doubt: E", "charge", "2", "E"),
        ("ValueError: order (12): is gone", None, "", "ValueError: order (12): is gone"),
        ("SoldOut", None, "", "SoldOut"),
        (None, None, "", ""),
    ],
)
def test_a_row_s_error_tells_the_step_its_place_and_what_was_raised(
    error: str | None, step: str | None, path: str, text: str
) -> None:
    assert tuple(blamed(error)) == (step, path, text)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("OSError: no answer for order-77 after 3.5 s", "OSError: no answer for … after ….… s"),
        ("KeyError: 'lamp'", "KeyError: …"),
        ('E: "a" and 0xFF00', "E: … and …"),
        ("E: 0b59f5e2-7bb1-4f6d-9c52-5f2b4a7e8f10 is gone", "E: … is gone"),
        ("HTTPError: bad gateway", "HTTPError: bad gateway"),
        ("it's the depot's fault", "it…s fault"),
    ],
)
def test_what_differs_between_sagas_with_the_same_trouble_is_left_out(text: str, pattern: str) -> None:
    assert blamed(text).pattern == pattern
