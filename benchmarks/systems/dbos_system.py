"""DBOS Transact, through its public API and with its default settings."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from dbos import DBOS, SetWorkflowID

from benchmarks.model import Case
from benchmarks.systems.dbos_workflows import Declined, awaits_approval, five_steps
from benchmarks.workload import ORDERS

# A wait for a message is preceded by the record of when it times out.
_PARKED_QUERY = "SELECT count(*) FROM operation_outputs WHERE function_name = 'DBOS.sleep'"


class DbosWorkflows:
    """Runs the benchmark's workflows in the launched DBOS of this process."""

    async def run(self, case: Case, saga_id: str) -> None:
        """Runs one workflow by calling it, the fastest of DBOS's ways."""
        ended = Case.COMPLETED
        with SetWorkflowID(saga_id):
            try:
                await five_steps(ORDERS[case])
            except Declined:
                ended = Case.COMPENSATED
        if ended is not case:
            raise AssertionError(f"{saga_id} ended {ended}, not {case}")

    async def start(self, saga_id: str) -> None:
        """Starts a workflow in the background."""
        with SetWorkflowID(saga_id):
            await DBOS.start_workflow_async(five_steps, ORDERS[Case.COMPLETED])

    async def park(self, saga_id: str) -> None:
        """Starts a workflow that waits for a message."""
        with SetWorkflowID(saga_id):
            await DBOS.start_workflow_async(awaits_approval, ORDERS[Case.COMPLETED])


class DbosRunner(DbosWorkflows):
    """The same, with a look into its SQLite file."""

    completed_query = "SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'"

    def __init__(self, database: Path) -> None:
        """Serves the system database in the file `database`."""
        self._database = database

    async def parked(self) -> int:
        """Counts the waits recorded."""
        return int(self._scalar(_PARKED_QUERY))

    async def facts(self) -> dict[str, Any]:
        """The journal mode it runs SQLite in."""
        return {"journal_mode": self._scalar("PRAGMA journal_mode")}

    def _scalar(self, query: str) -> Any:
        with closing(sqlite3.connect(self._database)) as connection:
            return connection.execute(query).fetchone()[0]


@asynccontextmanager
async def open_runner(database: Path, *, wal: bool = False) -> AsyncIterator[DbosRunner]:
    """Launches DBOS on `database`, recovering what is open there.

    Args:
        database: The SQLite file; created when missing.
        wal: Put the file into write-ahead logging first, which DBOS itself does not.
    """
    if wal:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    launch(f"sqlite:///{database}")
    yield DbosRunner(database)
    # The process ends now: DBOS.destroy() would wait for its background threads for nothing.


def launch(url: str) -> None:
    """Launches DBOS on the database at `url`, recovering what is open there."""
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()
