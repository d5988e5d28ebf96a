"""Steps in services that are reached over HTTP, sagas that are, and calls of other people's APIs in steps.

```python
from sagas_adapters.http import HttpTransport, participant_app
```

Needs the extra ``http``: ``pip install 'sagakit[http]'``. What travels is in docs/reference/http.md, so that
participants can be written in other languages.
"""

from __future__ import annotations

from sagas_adapters.http.api import Api, ApiInDoubt, ApiNotActed, ApiRejected
from sagas_adapters.http.callbacks import Callbacks
from sagas_adapters.http.responses import MemoryResponses, Responses
from sagas_adapters.http.router import RouterRequest, SagaRouter, saga_router
from sagas_adapters.http.server import ParticipantApp, participant_app
from sagas_adapters.http.signing import Signing
from sagas_adapters.http.sql_responses import SqlResponses
from sagas_adapters.http.transport import HttpTransport

__all__ = [
    "Api",
    "ApiInDoubt",
    "ApiNotActed",
    "ApiRejected",
    "Callbacks",
    "HttpTransport",
    "MemoryResponses",
    "ParticipantApp",
    "Responses",
    "RouterRequest",
    "SagaRouter",
    "Signing",
    "SqlResponses",
    "participant_app",
    "saga_router",
]
