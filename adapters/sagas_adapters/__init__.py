"""Adapters: how steps travel over HTTP and queues.

One module a transport. Each imports only its own client library, when it is first used, and says which extra
to install where that is missing. Import from the module itself, ``from sagas_adapters.<transport> import …``:
this package imports none of them.
"""

from __future__ import annotations

__all__: list[str] = []
