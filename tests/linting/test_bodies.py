"""What a body must not do: each snippet says where it is wrong, and everything else in it is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linting.snippets import lint

WRONG = {
    "anyio sleeps": """
        import anyio
        @saga
        async def order(sku: str) -> None:
            await charge(sku)
            await anyio.sleep(1)  # wrong: foreign-await
        """,
    "a client of a library, by way of a variable": """
        import httpx
        @saga
        async def order(sku: str) -> str:
            async with httpx.AsyncClient() as client:  # wrong: foreign-await
                return await client.get(sku)  # wrong: foreign-await
        """,
    "tasks and timeouts": """
        import asyncio as aio
        from asyncio import gather as together
        @saga
        async def order(sku: str) -> None:
            task = aio.create_task(charge(sku))  # wrong: foreign-await
            await together(charge(sku), charge("b"))  # wrong: foreign-await
            with __import__("anyio").fail_after(3):
                await charge(sku)
            async with aio.timeout(3):  # wrong: foreign-await
                await charge(sku)
        """,
    "a branch of a gather": """
        from anyio import sleep as nap
        @saga
        async def order(sku: str) -> None:
            await gather(charge(sku), nap(3))  # wrong: foreign-await
            await map_each(lambda each: nap(each), [1, 2])  # wrong: foreign-await
        """,
    "a helper awaits it": """
        import anyio
        async def pause() -> None:
            await anyio.sleep(1)  # wrong: foreign-await
        async def around(sku: str) -> None:
            await charge(sku)
            await pause()
        @saga
        async def order(sku: str) -> None:
            await around(sku)
        """,
    "a coordinator in a body": """
        coordinator = Coordinator("memory:", sagas=[])
        @saga
        async def order(sku: str) -> None:
            await coordinator.run(other(sku), id=sku)  # wrong: foreign-await
        @saga
        async def other(sku: str) -> None: ...
        """,
    "calls that nobody awaits": """
        async def both(sku: str) -> None:
            await gather(charge(sku), charge(sku))
        @saga
        async def other(sku: str) -> None: ...
        @saga
        async def order(sku: str) -> None:
            charge(sku)  # wrong: forgotten-await
            sleep(3)  # wrong: forgotten-await
            sagas.gather(charge(sku), charge(sku))  # wrong: forgotten-await
            both(sku)  # wrong: forgotten-await
            other(sku)  # wrong: forgotten-await
        """,
    "a call that is returned": """
        @saga
        async def order(sku: str) -> str:
            return charge(sku)  # wrong: forgotten-await
        """,
    "clocks": """
        import datetime as dt
        import time
        from datetime import datetime
        from time import monotonic
        @saga
        async def order(sku: str) -> None:
            print(datetime.now())  # wrong: wall-clock
            print(dt.datetime.now(dt.UTC))  # wrong: wall-clock
            print(dt.date.today())  # wrong: wall-clock
            print(time.time() - monotonic())  # wrong: wall-clock  # wrong: wall-clock
            print(time.strftime("%H"))  # wrong: wall-clock
            await charge(sku)
        """,
    "a clock in a helper": """
        from datetime import datetime
        def stamp() -> str:
            return str(datetime.utcnow())  # wrong: wall-clock
        @saga
        async def order(sku: str) -> None:
            await charge(stamp())
        """,
    "chance": """
        import os, random as chance, secrets, uuid
        from random import choice
        @saga
        async def order(sku: str) -> None:
            await charge(f"{chance.random()}")  # wrong: randomness
            await charge(choice([sku]))  # wrong: randomness
            await charge(str(uuid.uuid4()))  # wrong: randomness
            await charge(secrets.token_hex())  # wrong: randomness
            await charge(str(os.urandom(8)))  # wrong: randomness
            await charge(str(hash(sku)))  # wrong: randomness
        """,
    "chance in a lambda of a body, without a seed": """
        import random
        from uuid import uuid1
        @saga
        async def order(skus: list[str]) -> None:
            await map_each(lambda sku: charge(f"{sku}-{uuid1()}"), skus)  # wrong: randomness
            random.shuffle(skus)  # wrong: randomness
            dice = random.Random()  # wrong: randomness
        """,
    "files and settings": """
        import os
        from pathlib import Path
        HOME = Path("/srv")
        @saga
        async def order(sku: str) -> None:
            with open(sku) as file:  # wrong: io-in-body
                await charge(file.name)
            if os.environ.get("FAST") or os.environ["SLOW"]:  # wrong: io-in-body  # wrong: io-in-body
                await charge(os.getenv("CARD"))  # wrong: io-in-body
            await charge((HOME / sku).read_text())  # wrong: io-in-body
        """,
    "services": """
        import requests, subprocess, sqlite3
        @saga
        async def order(sku: str) -> None:
            requests.post("http://bank", json=sku)  # wrong: io-in-body
            subprocess.run(["true"])  # wrong: io-in-body
            database = sqlite3.connect("shop.db")  # wrong: io-in-body
            database.execute("DELETE FROM cart")  # wrong: io-in-body
            await charge(input())  # wrong: io-in-body
        """,
    "variables of the module": """
        seen: list[str] = []
        counts = {}
        total = 0
        @saga
        async def order(sku: str) -> None:
            global total
            total += 1  # wrong: global-state
            seen.append(sku)  # wrong: global-state
            counts[sku] = counts.get(sku, 0) + 1  # wrong: global-state
            del counts[sku]  # wrong: global-state
            await charge(sku)
        """,
    "variables of the module in a helper, and attributes": """
        from collections import defaultdict
        class Settings: ...
        settings = Settings()
        by_sku = defaultdict(list)
        def note(sku: str) -> None:
            by_sku[sku].append(1)
            by_sku.pop(sku)  # wrong: global-state
        @saga
        async def order(sku: str) -> None:
            settings.last = sku  # wrong: global-state
            note(sku)
            await charge(sku)
        """,
    "sets": """
        @saga
        async def order(skus: list[str]) -> None:
            for sku in set(skus):  # wrong: unordered-iteration
                await charge(sku)
            await map_each(charge, {"a", "b"})  # wrong: unordered-iteration
            await gather(*(charge(sku) for sku in frozenset(skus)))  # wrong: unordered-iteration
            await charge(",".join({each for each in skus}))  # wrong: unordered-iteration
        """,
    "sets by way of a name, an annotation and a difference": """
        @saga
        async def order(skus: list[str], tags: set[str]) -> None:
            missing = set(skus) - {"a"}
            await map_each(charge, [each for each in missing])  # wrong: unordered-iteration
            first = list(tags)[0]  # wrong: unordered-iteration
            for tag in tags:  # wrong: unordered-iteration
                if tag in skus:
                    break
            await charge(missing.pop())  # wrong: unordered-iteration
        """,
    "everything is caught": """
        @saga
        async def order(sku: str) -> None:
            while True:
                try:
                    await charge(sku)
                except:  # wrong: swallowed-stop
                    pass
        """,
    "BaseException is caught": """
        @saga
        async def order(sku: str) -> None:
            try:
                await charge(sku)
            except (ValueError, BaseException) as error:  # wrong: swallowed-stop
                print(error)
            await charge(sku)
        """,
    "steps in a body": """
        @saga
        async def order(sku: str) -> None:
            @step
            async def pack() -> None:  # wrong: step-in-body
                await bank.pack(sku)
            @step(retry=Retry(attempts=3))
            def wrap() -> None:  # wrong: step-in-body
                bank.wrap(sku)
            await pack()
        """,
    "a saga in a body": """
        @saga
        async def order(sku: str) -> None:
            @saga
            async def inner() -> None:  # wrong: step-in-body
                await charge(sku)
            await inner()
        """,
    "sleeping": """
        import time
        @saga
        async def order(sku: str) -> None:
            time.sleep(1)  # wrong: blocking-call
            await charge(sku)
        """,
}

RIGHT = {
    "all operations": """
        from datetime import timedelta
        @saga
        async def other(sku: str) -> None: ...
        @saga
        async def order(sku: str) -> str:
            first, second = await gather(charge(sku), other(sku))
            await race(charge(sku), sleep(3))
            await sagas.sleep_until(await now() + timedelta(days=1))
            async with scope(), lock(sku):
                await map_each(charge, [sku, str(await uuid4())], limit=2)
            if await sagas.version("x") and await random() > 0.5:
                return await receive("name", str)
            call = charge(sku)
            return await call
        """,
    "what cannot be told is not guessed": """
        from elsewhere import helper, Service
        import shoplib
        service = Service()
        @saga
        async def order(sku: str) -> None:
            await helper(sku)
            await shoplib.charge(sku)
            await service.charge(sku)
            helper(sku)
            time = shoplib.time
            await charge(str(time.time()))
            for each in shoplib.skus():
                await charge(each)
        """,
    "helpers that await operations": """
        async def twice(sku: str, pause: float) -> None:
            await charge(sku)
            await sleep(pause)
            await charge(sku)
        @saga
        async def order(sku: str) -> None:
            await twice(sku, 3)
            await gather(twice(sku, 1), twice(sku, 2))
            await map_each(lambda each: twice(each, 1), [sku])
        """,
    "the same outside of bodies": """
        import anyio, os, random, time
        from datetime import datetime
        seen = []
        @step
        def look(sku: str) -> str:
            seen.append(sku)
            time.sleep(1)
            return f"{datetime.now()} {random.random()} {os.environ['X']} {open(sku).read()}"
        async def main() -> None:
            charge("x")
            await anyio.sleep(1)
            for sku in {"a", "b"}:
                await charge(sku)
            try:
                await anyio.sleep(1)
            except BaseException:
                pass
        """,
    "what record calls": """
        import os, time
        from datetime import datetime
        from pathlib import Path
        def settings() -> str:
            return Path("settings").read_text()
        @saga
        async def order(sku: str) -> None:
            await charge(await record(lambda: os.environ["CARD"]))
            await charge(await sagas.record(settings))
            await charge(str(await record(time.time)))
            await charge(str(await record(lambda: datetime.now(), str)))
        """,
    "operations that are named as what is wrong": """
        from sagas import now as time, random as dice
        @saga
        async def order(sku: str, open: int, hash: int) -> str:
            when = await time()
            stamp = when.isoformat()
            input = open + hash
            return f"{stamp} {await dice()} {input}"
        """,
    "times that are given": """
        import time
        from datetime import UTC, datetime, timedelta
        @saga
        async def order(sku: str, at: datetime) -> str:
            print("starting", sku)
            due = datetime.fromtimestamp(0, UTC) + timedelta(days=1)
            return time.strftime("%H", time.gmtime(3)) + str(at > due)
        """,
    "chance with a seed": """
        import random, uuid
        @saga
        async def order(sku: str) -> str:
            dice = random.Random(sku)
            name = uuid.uuid5(uuid.NAMESPACE_DNS, sku)
            return f"{dice.choice([1, 2])} {name}"
        """,
    "paths and exceptions without I/O": """
        import httpx
        from pathlib import Path
        @saga
        async def order(sku: str) -> str:
            path = Path("a") / sku
            if not path.suffix:
                raise httpx.InvalidURL(sku)
            return path.with_suffix(".x").as_posix()
        """,
    "local state": """
        LIMITS = {"a": 1}
        @saga
        async def order(skus: list[str]) -> dict[str, str]:
            done: dict[str, str] = {}
            LIMITS.get("a")
            def note(sku: str) -> None:
                done[sku] = sku
            for sku in skus:
                note(sku)
                done[sku] = await charge(sku)
            seen = []
            seen.append(1)
            return done
        """,
    "module state that is shadowed": """
        seen = []
        @saga
        async def order(sku: str) -> None:
            seen = []
            seen.append(sku)
            await charge(sku)
        @saga
        async def other(seen: list[str]) -> None:
            seen.append("x")
            await charge("y")
        """,
    "sets whose order does not matter": """
        @saga
        async def order(skus: list[str], numbers: set[int]) -> int:
            wanted = set(skus)
            for sku in sorted(wanted):
                await charge(sku)
            total = 0
            for sku in wanted:
                total += len(sku)
            if "a" in wanted or any(sku == "b" for sku in wanted):
                total += sum([len(sku) for sku in wanted])
            for number in numbers:
                await charge(str(number))
            return total + len(wanted) + max({1, 2})
        """,
    "dicts and lists have an order": """
        @saga
        async def order(prices: dict[str, int]) -> None:
            for sku in prices:
                await charge(sku)
            for sku in {sku: 1 for sku in prices}:
                await charge(sku)
            await map_each(charge, list(dict.fromkeys(prices)))
            for number in {1, 2}:
                await charge(str(number))
        """,
    "failures are caught": """
        @saga
        async def order(sku: str) -> str | None:
            try:
                return await charge(sku)
            except Rejected:
                pass
            except Exception as error:
                print(error)
            try:
                await charge(sku)
            except BaseException:
                print("cleaning up")
                raise
            try:
                int(sku)
            except:
                print("nothing was awaited")
            return None
        """,
    "a stopped branch that ends": """
        @saga
        async def order(sku: str) -> None:
            try:
                await charge(sku)
            except BaseException:
                return
        """,
    "steps around a saga": """
        def make(rate: int):
            @step
            async def pack(sku: str) -> None:
                await bank.pack(sku, rate)
            @saga
            async def order(sku: str) -> None:
                def label(sku: str) -> str:
                    return f"a {sku}"
                await pack(label(sku))
            return order
        """,
    "calls that are kept, and generators": """
        async def several(skus: list[str]):
            for sku in skus:
                yield sku
        def plain(sku: str) -> None: ...
        @saga
        async def order(sku: str) -> None:
            calls = [charge(sku), charge(sku)]
            await gather(*calls)
            plain(sku)
            several([sku])
        """,
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_a_body_is_found(name: str, tmp_path: Path) -> None:
    assert "# wrong:" in WRONG[name]
    lint(WRONG[name], tmp_path)


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_in_a_body_is_not(name: str, tmp_path: Path) -> None:
    assert "# wrong:" not in RIGHT[name]
    lint(RIGHT[name], tmp_path)
