"""A console for operators: what runs, what is stuck and why, and what can be done about it, in a browser.

```python
from sagas_adapters.console import Visitor, console_app

app.mount("/sagas", console_app(client, authenticate=who))
```

Or alone, ``sagas console --store URL``. Needs the extra ``console``: ``pip install 'sagakit[console]'``.
See docs/how-to/console.md.
"""

from __future__ import annotations

from sagas_adapters.console.app import Console, console_app
from sagas_adapters.console.serving import serve_console
from sagas_adapters.console.visitors import Authenticate, Role, Visitor

__all__ = ["Authenticate", "Console", "Role", "Visitor", "console_app", "serve_console"]
