"""The shop of the documentation: three services that agree to the cent, whatever happens to them."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from docs.examples.shop.audit import Books, audit  # pyright: ignore[reportMissingImports] - sees tests/docs
from docs.examples.shop.chaos import Options, run  # pyright: ignore[reportMissingImports] - sees tests/docs
from docs.examples.shop.run import nats_server  # pyright: ignore[reportMissingImports] - sees tests/docs

# `SAGAS_SHOP_ORDERS=200 pytest tests/chaos/test_shop.py`, or `python -m docs.examples.shop.chaos`, for a long run.
_ORDERS = int(os.environ.get("SAGAS_SHOP_ORDERS", "40"))


def _trouble(home: Path, rng: random.Random, orders: int, url: str | None = None) -> None:
    options = Options(orders=orders, kills=max(3, orders * 6 // 40), seconds=orders * 0.2, seed=rng.randrange(2**32))
    print(f"python -m docs.examples.shop.chaos --seed {options.seed}; more in {home}")  # noqa: T201 - shown if it fails
    story = anyio.run(lambda: run(home, options, url=url))
    print(story.told())  # noqa: T201 - shown when it fails
    assert story.problems == []
    assert story.books is not None
    assert len(story.books.statuses) == orders
    assert {f"kills of {service}" for service in ("orders", "stock", "payments")} <= set(story.events)


def test_the_services_agree_to_the_cent_though_they_are_killed_paused_and_cut_off(
    tmp_path: Path, rng: random.Random
) -> None:
    _trouble(tmp_path, rng, _ORDERS)


def test_they_agree_with_queues_on_nats_too(tmp_path: Path, rng: random.Random) -> None:
    with nats_server(tmp_path) as url:
        _trouble(tmp_path, rng, _ORDERS // 4, url)


# --- the audit can fail ---------------------------------------------------------------------------------------------

RIGHT = Books(
    statuses={"1": "completed", "2": "compensated", "3": "compensated"},
    sales={"1": ("lamp", 2, 900)},
    movements={"1": [("lamp", -2)], "2": [("lamp", -1), ("lamp", 1)]},
    bookings={"1": [("gold", -900)], "2": [("gold", -450), ("gold", 450)]},
    shelf={"lamp": (10, 8)},
    cards={"gold": (5000, 4100)},
)


def test_books_that_agree_have_no_problem() -> None:
    assert audit(RIGHT) == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (replace(RIGHT, statuses={**RIGHT.statuses, "1": "stuck"}), "order 1 is stuck"),
        (replace(RIGHT, statuses={"1": "completed", "2": "compensated"}, sales={}), "order 1 completed, and was not"),
        (replace(RIGHT, sales={**RIGHT.sales, "2": ("lamp", 1, 450)}), "order 2 was compensated, and sold"),
        (replace(RIGHT, movements={**RIGHT.movements, "1": [("lamp", -2)] * 2}), "order 1 completed with 2 x lamp"),
        (replace(RIGHT, bookings={**RIGHT.bookings, "1": [("gold", -899)]}), "order 1 completed for 900 cents"),
        (replace(RIGHT, movements={**RIGHT.movements, "2": [("lamp", -1)]}), "and stock did"),
        (replace(RIGHT, movements={**RIGHT.movements, "3": [("lamp", 1)]}), "and stock did"),
        (replace(RIGHT, bookings={**RIGHT.bookings, "2": [("gold", -450), ("gold", 450), ("gold", 450)]}), "payments"),
        (replace(RIGHT, shelf={"lamp": (10, 7)}), "sold 2 x lamp, and 3 are gone"),
        (replace(RIGHT, cards={"gold": (5000, 4101)}), "orders sold for 900 cents, and payments took 899"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_books_that_differ_have_one(wrong: Books, says: str) -> None:
    assert any(says in problem for problem in audit(wrong))
