"""Run as a program: archives or deletes what has ended in a journal, a few sagas at a time, and says so after each."""

from __future__ import annotations

import sys

from sagas.stores import store_for
from sagas.stores.keeping import Purge

_LIMIT = 5


def main(url: str, how: str) -> None:
    """Goes on to the end."""
    store = store_for(url)
    store.open(migrate=False)
    limits = {"completed": 1e9, "compensated": 1e9}
    what = Purge(archive=limits, settled=1e9) if how == "archive" else Purge(delete=limits, settled=1e9)
    after: int | None = 0
    while after is not None:
        after = store.purge(what, limit=_LIMIT, after=after).after
        print(after, flush=True)  # noqa: T201 - tells the parent


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
