"""Which texts are a W3C ``traceparent``, and which are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sagas.telemetry.tracing import read_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ARABIC = "\N{ARABIC-INDIC DIGIT ONE}"  # which `int` reads
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("parent", "sampled"),
    [
        (PARENT, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-", True),
        (f"01-{TRACE}-{SPAN}-01-what the-future_will be like", True),
    ],
)
def test_a_parent_is_read_and_what_later_versions_add_is_passed_over(parent: str, sampled: bool) -> None:
    found = read_parent(parent, "vendor=1")
    assert found is not None
    assert (f"{found.trace_id:032x}", f"{found.span_id:016x}") == (TRACE, SPAN)
    assert (found.trace_flags.sampled, found.trace_state.to_header()) == (sampled, "vendor=1")


@pytest.mark.parametrize(
    "parent",
    [
        "", "nonsense", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
        PARENT.upper(), f"00-{TRACE}-{SPAN}-01-", f"00-{TRACE}-{SPAN}-01-more", f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-01x", f"0-{TRACE}-{SPAN}-01", f"00-{TRACE[1:]}-{SPAN}-01", f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}-001", f"00-+{TRACE[1:]}-{SPAN}-01", f"00-{TRACE}-{SPAN[:-2]}_1-01",
        f"00-{TRACE}- {SPAN[1:]}-01", f"{PARENT}\n", f" {PARENT}", f"00-{ARABIC * 32}-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
    ],
)  # fmt: skip
def test_what_is_odd_is_no_parent(parent: str) -> None:
    assert read_parent(parent) is None


@given(
    st.lists(st.sampled_from(["00", "01", "cc", "ff", "FF", "0", TRACE, "0" * 32, SPAN, "0" * 16, "x", ""]), max_size=6)
    | st.from_regex(r"[0-9a-fg]{2}-[0-9a-f]{32}-[0-9a-fA]{16}-[0-9a-f]{2}(-?[a-z]{0,3})", fullmatch=True).map(
        lambda text: text.split("-")
    )
)
def test_what_opentelemetry_reads_is_read_and_nothing_else(parts: list[str]) -> None:
    parent = "-".join(parts)
    extracted = TraceContextTextMapPropagator().extract({"traceparent": parent}, Context())
    expected = trace.get_current_span(extracted).get_span_context()
    found = read_parent(parent)
    assert (found is not None) is expected.is_valid
    if found is not None:
        assert (found.trace_id, found.span_id) == (expected.trace_id, expected.span_id)
        assert found.trace_flags.sampled is expected.trace_flags.sampled
