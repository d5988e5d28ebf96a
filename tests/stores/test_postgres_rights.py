"""A user of the database who lacks a right: which one is said at once, and nothing is lost until it is granted."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator

import anyio
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, make_url

from sagas import Client, Coordinator, StoreError, StoreUnavailable, saga, step
from sagas.stores.keeping import ScheduleRow
from sagas.stores.port import Lease
from sagas.stores.postgres import PostgresStore
from sagas.testing.contracts.stores._batches import start

_PATIENCE = 30.0


@step
async def reserve() -> str:
    return "reserved"


@saga
async def order() -> str:
    return await reserve()


class Guest:
    """A user of a database that has tables; may do everything, until something is revoked.

    Args:
        url: Of the database, for its owner.
    """

    def __init__(self, url: str) -> None:
        self._owner: URL = make_url(url)
        self._name = f"guest_{uuid.uuid4().hex}"
        secret = uuid.uuid4().hex
        self.url = self._owner.set(username=self._name, password=secret).render_as_string(hide_password=False)
        self.do(f"CREATE ROLE {{}} LOGIN PASSWORD '{secret}'")
        self.do("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}")
        self.do("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {}")

    def do(self, statement: str) -> None:
        """Has the owner do something about the user, who is ``{}``."""
        address = self._owner.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement.replace("{}", sql.Identifier(self._name).as_string(connection)).encode())

    def leave(self) -> None:
        """Removes the user."""
        self.do("DROP OWNED BY {}")
        self.do("DROP ROLE {}")


@pytest.fixture
def guest(postgres_url: str) -> Iterator[Guest]:
    store = PostgresStore(postgres_url)
    store.open(migrate=True)
    store.close()
    guest = Guest(postgres_url)
    yield guest
    guest.leave()


@pytest.mark.parametrize(
    ("right", "table", "asks"),
    [
        ("SELECT", "saga_schedule", lambda store: store.schedules()),
        ("UPDATE", "saga_schedule", lambda store: store.pause_schedule("a", 0.0, paused=True)),
        ("INSERT", "saga_schedule", lambda store: store.add_schedule(ScheduleRow("a", "1", 0.0))),
        ("DELETE", "saga_mail", lambda store: store.discard([1])),
        ("INSERT", "saga_mail", lambda store: store.post("s", 0.0, "signal", b"")),
        ("INSERT", "saga", lambda store: store.commit(start("s"))),
        ("INSERT", "saga_journal", lambda store: store.commit(start("s"))),
        ("INSERT", "saga_lease", lambda store: store.renew(Lease("a", "host", 9e9), 0.0)),
        ("UPDATE", "saga_limit", lambda store: store.draw_tokens("a", 0.0, speed=1.0, burst=1.0, want=1)),
        ("USAGE", "SEQUENCE saga_mail_id_seq", lambda store: store.post("s", 0.0, "signal", b"")),
    ],
)
def test_a_right_that_is_missing_is_named_and_is_no_outage(
    guest: Guest, right: str, table: str, asks: Callable[[PostgresStore], object]
) -> None:
    store = PostgresStore(guest.url)
    store.open(migrate=False)
    guest.do(f"REVOKE {right}{', UPDATE' if right == 'USAGE' else ''} ON {table} FROM {{}}")
    try:
        with pytest.raises(StoreError, match=rf"lacks a right.*GRANT [A-Z, ]*{right}[A-Z, ]* ON {table} TO") as raised:
            asks(store)
        assert not isinstance(raised.value, StoreUnavailable)
        assert "docs/how-to/run-on-postgres.md" in str(raised.value)
        guest.do(f"GRANT {right} ON {table} TO {{}}")
        asks(store)
    finally:
        store.close()


def test_whoever_may_not_create_tables_is_told_who_may(postgres_url: str) -> None:
    guest = Guest(postgres_url)
    store = PostgresStore(guest.url)
    guest.do("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        with pytest.raises(StoreError, match=r"schema public.*an admin run `sagas migrate`") as raised:
            store.open(migrate=True)
        assert not isinstance(raised.value, StoreUnavailable)
    finally:
        guest.leave()


async def test_a_client_without_a_right_is_told_so(guest: Guest) -> None:
    guest.do("REVOKE SELECT ON saga_schedule FROM {}")
    async with Client(guest.url) as client:
        with pytest.raises(StoreError, match="GRANT SELECT ON saga_schedule"):
            await client.schedules()


async def test_sagas_stand_still_while_a_right_is_missing_and_go_on_when_it_is_granted(
    guest: Guest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "sagas.journal")
    async with Coordinator(guest.url, sagas=[order], migrate=False) as coordinator:
        guest.do("REVOKE INSERT ON saga_journal FROM {}")
        with anyio.fail_after(_PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(coordinator.run, order())
                while not caplog.messages:  # noqa: ASYNC110 - only the log tells
                    await anyio.sleep(0.01)
                assert "GRANT INSERT ON saga_journal" in caplog.messages[0]
                guest.do("GRANT INSERT ON saga_journal TO {}")
        assert caplog.messages[1:] == ["the journal can be written again; sagas go on"]
