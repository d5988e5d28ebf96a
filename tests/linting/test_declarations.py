"""What is wrong with declarations, and with what steps do."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from sagas import DeclarationError
from sagas.linting import Severity
from tests.linting.snippets import HEADER, found_in, lint

WRONG = {
    "steps in steps": """
        @step
        async def both(order: str) -> None:
            await charge(order)  # wrong: operation-in-step
            await sleep(3)  # wrong: operation-in-step
            async with lock(order):  # wrong: operation-in-step
                pass
        """,
    "steps and sagas in compensators and probes": """
        @saga
        async def other(order: str) -> None: ...
        @step
        async def pack(order: str) -> None: ...
        @pack.compensator
        async def unpack(order: str) -> None:
            await other(order)  # wrong: operation-in-step
        @pack.probe
        async def find(order: str) -> None:
            await check_stock(order)  # wrong: operation-in-step
        """,
    "blocking steps": """
        import requests, subprocess, time
        from urllib.request import urlopen
        @step
        async def pack(order: str) -> None:
            time.sleep(3)  # wrong: blocking-call
            requests.get(order)  # wrong: blocking-call
            urlopen(order)  # wrong: blocking-call
        @pack.compensator
        async def unpack(order: str) -> None:
            subprocess.run(["true"])  # wrong: blocking-call
            session = requests.Session()
            session.post(order)  # wrong: blocking-call
        """,
    "blocking clients in a block": """
        import httpx
        @step
        async def pack(order: str) -> None:
            with httpx.Client() as client:
                client.post(order)  # wrong: blocking-call
        """,
    "defaults that can be changed": """
        @step
        async def pack(order: str, labels: list[str] = []) -> None: ...  # wrong: mutable-default
        @pack.compensator
        async def unpack(order: str, *, seen=dict()) -> None: ...  # wrong: mutable-default
        @saga
        async def other(skus: set[str] = {"a"}) -> None: ...  # wrong: mutable-default
        """,
    "more defaults that can be changed": """
        from collections import defaultdict
        @step
        def pack(order: str, labels=defaultdict(list)) -> None: ...  # wrong: mutable-default
        @pack.probe
        def find(order: str, labels={}) -> None: ...  # wrong: mutable-default
        """,
    "an undo that needs a result": """
        from dataclasses import dataclass
        @dataclass
        class Parcel:
            id: str
        @step
        async def pack(order: str) -> Parcel: ...
        @pack.compensator
        async def unpack(order: str, result: Parcel) -> None: ...  # wrong: undo-needs-result
        @step
        async def wrap(order: str) -> list[str]: ...
        @wrap.compensator(retry=Retry(attempts=3))
        async def unwrap(result: list[str]) -> None: ...  # wrong: undo-needs-result
        """,
    "an undo that needs a result, quoted or by another name": """
        from decimal import Decimal
        Price = Decimal
        @step
        async def pack(order: str) -> Price: ...
        @pack.compensator
        async def unpack(order: str, result: "Decimal") -> None: ...  # wrong: undo-needs-result
        @step
        async def wrap(order: str) -> Price: ...
        @wrap.compensator
        async def unwrap(result: Price) -> None: ...  # wrong: undo-needs-result
        """,
    "parameters that the step does not have": """
        @step
        async def pack(order: str) -> str: ...
        @pack.compensator
        async def unpack(oder: str) -> None: ...  # wrong: wrong-declaration
        """,
    "parameters that a probe cannot have": """
        @step
        async def pack(order: str) -> str: ...
        @pack.probe
        async def find(result: str) -> str: ...  # wrong: wrong-declaration
        """,
    "parameters without a name of their own": """
        @step
        async def pack(*orders: str) -> str: ...  # wrong: wrong-declaration
        """,
    "options of a step as parameters": """
        @step
        async def pack(order: str, /, size: int) -> str: ...  # wrong: wrong-declaration
        """,
    "keywords of a saga": """
        @saga
        async def other(**skus: str) -> str: ...  # wrong: wrong-declaration
        """,
    "a body that is no coroutine": """
        @saga
        def other(sku: str) -> str:  # wrong: wrong-declaration
            return sku
        """,
    "a step that yields": """
        @step
        async def pack(order: str):  # wrong: wrong-declaration
            yield order
        """,
    "rejects of one type": """
        class Full(Rejected): ...
        @step(rejects=Full)  # wrong: wrong-declaration
        async def pack(order: str) -> None: ...
        """,
    "a coroutine in a transaction": """
        @step(transactional=True)
        async def pack(session, order: str) -> None: ...  # wrong: wrong-declaration
        """,
    "a transaction with a timeout": """
        @step(transactional=True, timeout=3)  # wrong: wrong-declaration
        def pack(session, order: str) -> None: ...
        """,
    "a transaction without a session": """
        @step(transactional=True)
        def pack() -> None: ...  # wrong: wrong-declaration
        """,
    "a remote step in a transaction": """
        @step(remote=True, transactional=True)  # wrong: wrong-declaration
        def pack(session, order: str) -> None: ...
        """,
    "undos in transactions": """
        @step
        async def pack(order: str) -> None: ...
        @pack.compensator(transactional=True)
        async def unpack(session, order: str) -> None: ...  # wrong: wrong-declaration
        @step
        async def wrap(order: str) -> None: ...
        @wrap.compensator(transactional=True, timeout=3)  # wrong: wrong-declaration
        def unwrap(session, order: str) -> None: ...
        @step
        async def send(order: str) -> None: ...
        @send.compensator(transactional=True)
        def unsend() -> None: ...  # wrong: wrong-declaration
        @step
        async def tell(order: str) -> None: ...
        @tell.compensator(transactional=True)
        def untell(session, parcel: str) -> None: ...  # wrong: wrong-declaration
        @step(remote=True)
        async def print_it(order: str) -> None: ...
        @print_it.compensator(transactional=True)  # wrong: wrong-declaration
        def unprint(session, order: str) -> None: ...
        @step
        async def weigh(order: str) -> str: ...
        @weigh.compensator(transactional=True)
        def unweigh(session, result: str) -> None: ...  # wrong: undo-needs-result
        """,
    "two compensators": """
        @step
        async def pack(order: str) -> None: ...
        @pack.compensator
        async def unpack(order: str) -> None: ...
        @pack.compensator
        async def unpack_again(order: str) -> None: ...  # wrong: wrong-declaration
        """,
    "a probe of a transaction": """
        @step(transactional=True)
        def pack(session, order: str) -> str: ...
        @pack.probe
        def find(order: str) -> str: ...  # wrong: wrong-declaration
        """,
    "resources as arguments": """
        import socket, threading
        from collections.abc import Iterator
        @step
        def pack(line: socket.socket) -> None: ...  # wrong: unencodable-annotation
        @step
        def wrap(order: str) -> Iterator[str]: ...  # wrong: unencodable-annotation
        @saga
        async def other(latch: threading.Event | None = None) -> None: ...  # wrong: unencodable-annotation
        """,
    "sessions, locks and functions": """
        import asyncio, typing
        from typing import Callable
        from sqlmodel import Session
        @step
        def pack(order: str, session: Session) -> None: ...  # wrong: unencodable-annotation
        @step
        def wrap(order: str, then: Callable[[], None]) -> None: ...  # wrong: unencodable-annotation
        @step
        def hold(order: str) -> "list[asyncio.Lock]": ...  # wrong: unencodable-annotation
        """,
    "classes that say nothing about their fields": """
        class Order:
            def __init__(self, sku: str) -> None:
                self.sku = sku
        class Express(Order): ...
        @step
        async def pack(order: Order) -> None: ...  # wrong: unencodable-annotation
        @saga
        async def other(sku: str) -> dict[str, Express]: ...  # wrong: unencodable-annotation
        """,
    "types for type checkers": """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from datetime import datetime
            import decimal
        @step
        async def pack(order: str, at: "datetime") -> None: ...  # wrong: type-checking-import
        @pack.compensator
        async def unpack(at: "datetime") -> None: ...  # wrong: type-checking-import
        @saga
        async def other(sku: str) -> "list[decimal.Decimal]": ...  # wrong: type-checking-import
        """,
    "types for type checkers, of probes": """
        import typing as t
        if t.TYPE_CHECKING:
            from datetime import datetime
        @step
        async def pack(order: str) -> "datetime": ...  # wrong: type-checking-import
        @pack.probe
        async def find(order: str) -> "datetime | NotApplied": ...  # wrong: type-checking-import
        """,
}

# What the library refuses when it is imported is refused by it too, not only here.
AT_IMPORT = (
    "an undo that needs a result", "an undo that needs a result, quoted or by another name",
    "parameters that the step does not have", "parameters that a probe cannot have",
    "parameters without a name of their own", "options of a step as parameters", "keywords of a saga",
    "a body that is no coroutine", "a step that yields", "rejects of one type", "a coroutine in a transaction",
    "a transaction with a timeout", "a transaction without a session", "two compensators", "a probe of a transaction",
    "resources as arguments", "sessions, locks and functions", "classes that say nothing about their fields",
)  # fmt: skip

RIGHT = {
    "steps that await other things": """
        import anyio, time
        async def send(order: str) -> str:
            return await bank.send(order)
        @step
        async def pack(order: str) -> str:
            await anyio.sleep(1)
            await anyio.to_thread.run_sync(time.sleep, 1)
            await bank.charge(current_step().idempotency_key)
            return await send(order)
        @pack.probe
        async def find(order: str) -> str | NotApplied:
            return await send(order)
        @step
        async def start(order: str) -> str:
            async with Client("memory:") as client:
                return await client.run(other(order), id=order)
        @saga
        async def other(order: str) -> str: ...
        """,
    "steps that call the function of another": """
        @step
        async def both(order: str) -> str:
            return await charge.function(order)
        """,
    "blocking calls in threads": """
        import time, requests
        @step
        def pack(order: str) -> None:
            time.sleep(1)
            requests.post(order)
        @pack.compensator
        def unpack(order: str) -> None:
            requests.delete(order)
        """,
    "asynchronous clients": """
        import httpx
        @step
        async def pack(order: str) -> None:
            async with httpx.AsyncClient() as client:
                await client.post(order)
        """,
    "defaults that cannot be changed": """
        @step
        async def pack(labels: list[str] | None = None, sizes: tuple[int, ...] = (), tag: str = "x") -> None: ...
        @saga
        async def other(skus: frozenset[str] = frozenset()) -> None: ...
        def plain(order: str, seen=[]) -> None: ...
        """,
    "defaults of what is in a body": """
        @saga
        async def other(sku: str) -> None:
            def inner(seen=[]) -> None: ...
            await charge(sku)
        """,
    "undos that manage without a result": """
        from typing import Any, Optional, Union
        from elsewhere import MaybeParcel
        Found = str | None
        @step
        async def a(order: str) -> str: ...
        @a.compensator
        async def unpack(result: Optional[str]) -> None: ...
        @step
        async def b(order: str) -> str: ...
        @b.compensator
        async def unpack_b(result: Union[str, None]) -> None: ...
        @step
        async def c(order: str) -> str: ...
        @c.compensator
        async def unpack_c(order: str, result: "str | None") -> None: ...
        @step
        async def d(order: str) -> str: ...
        @d.compensator
        async def unpack_d(result: Any) -> None: ...
        @step
        async def e(order: str) -> MaybeParcel: ...
        @e.compensator
        async def unpack_e(result: MaybeParcel) -> None: ...
        @step
        async def f(order: str) -> str: ...
        @f.compensator
        async def unpack_f(result: Found) -> None: ...
        @step
        async def g(order: str) -> str: ...
        @g.compensator
        async def unpack_g(result) -> None: ...
        """,
    "undos of what always has a result": """
        @step(transactional=True)
        def pack(session, order: str) -> str: ...
        @pack.compensator
        def unpack(result: str) -> None: ...
        @step
        async def wrap(result: str) -> int: ...
        @wrap.compensator
        async def unwrap(result: str) -> None: ...
        """,
    "declarations with everything": """
        class Full(Rejected): ...
        @step(name="pack-it", retry=Retry(attempts=3), timeout=3.0, rejects=(Full, ValueError), atomic=True)
        async def pack(order: str, *, size: int = 3) -> str: ...
        @pack.compensator(retry=Retry(attempts=None), timeout=3)
        async def unpack(size: int, result: str | None, hurry: bool = False) -> None: ...
        @pack.probe
        async def find(order: str) -> str | NotApplied: ...
        @saga(name="ship", version="2", continues=("1",), timeout=3600)
        async def other(order: str, *, size: int = 3) -> None: ...
        """,
    "transactions": """
        from sqlmodel import Session
        @step(transactional=True, retry=Retry(attempts=3))
        def pack(session: Session, order: str) -> int: ...
        @pack.compensator
        def unpack(order: str) -> None: ...
        @step
        async def wrap(order: str) -> int: ...
        @wrap.compensator(transactional=True, retry=Retry(attempts=3), timeout=None)
        def unwrap(session: Session, order: str, result: int | None, hurry: bool = False) -> None: ...
        """,
    "types that can be written": """
        import datetime as dt
        import decimal
        from collections.abc import Sequence
        from dataclasses import dataclass
        from enum import Enum
        from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict
        from uuid import UUID
        from pydantic import BaseModel
        from elsewhere import Parcel
        import shoplib
        class Color(Enum):
            RED = 1
        class Order(BaseModel):
            sku: str
        class Express(Order): ...
        class Row(NamedTuple):
            sku: str
        class Keys(TypedDict):
            sku: str
        @dataclass
        class Receipt:
            sku: str
        class Own:
            def __get_pydantic_core_schema__(self, source, handler): ...
        @shoplib.model
        class Foreign: ...
        @step
        async def pack(
            a: Order, b: Express, c: Row, d: Keys, e: Receipt, f: Own, g: Foreign, h: Parcel, i: shoplib.Box, j: object,
            k: Any, l: Sequence[str], m: Literal["Lock"], n: UUID, o: Color, p, q: "dt.datetime | None" = None,
        ) -> Annotated[decimal.Decimal, "a note"]: ...
        """,
    "plain classes and resources where no journal is": """
        import threading
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from datetime import datetime
        class Plain: ...
        def helper(order: Plain, latch: threading.Lock, at: "datetime") -> None: ...
        @step
        async def pack(order: str) -> str:
            at: "datetime" = bank.now()
            latch: threading.Lock = threading.Lock()
            helper(Plain(), latch, at)
            return order
        """,
    "types that are imported in both ways": """
        from typing import TYPE_CHECKING
        from datetime import datetime
        if TYPE_CHECKING:
            from datetime import datetime
        @step
        async def pack(at: "datetime") -> None: ...
        """,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_declaration_is_found(name: str, tmp_path: Path) -> None:
    assert "# wrong:" in WRONG[name]
    lint(WRONG[name], tmp_path)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_declaration_is_not(name: str, tmp_path: Path) -> None:
    assert "# wrong:" not in RIGHT[name]
    lint(RIGHT[name], tmp_path)


class _Anything:
    """Stands for modules that are not there."""

    def __getattr__(self, name: str) -> object:
        return object


@pytest.mark.parametrize("name", AT_IMPORT)
def test_what_is_said_to_fail_at_import_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elsewhere", _Anything())
    source = HEADER + textwrap.dedent(WRONG[name])
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)  # where dataclasses look
    with pytest.raises(DeclarationError):
        exec(compile(source, "shop.py", "exec"), vars(module))  # noqa: S102 - our own snippets


def test_a_default_that_is_shared_for_sure_is_an_error_others_warn(tmp_path: Path) -> None:
    text = """
    @step
    async def pack(order: str, labels: list[str] = []) -> None: ...
    @pack.compensator
    async def unpack(order: str, seen: list[str] = []) -> None: ...
    """
    _, (of_step, of_undo) = found_in(text, tmp_path)
    assert (of_step.severity, of_undo.severity) == (Severity.WARNING, Severity.ERROR)
