"""Which steps cannot be undone, and what may fail when there is no way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagas.linting import Severity
from tests.linting.snippets import found_in, lint

SHOP = """
@step
async def pack(sku: str) -> None:  # wrong: uncompensated-step
    await bank.pack(sku)
"""
# The same, where it is right.
PACK = SHOP.replace("  # wrong: uncompensated-step", "")
PIVOT = """
@step(pivot=True)
async def hand_over(sku: str) -> None:
    await bank.ship(sku)

@step
async def mail(sku: str) -> None:
    await bank.mail(sku)

@step(retry=Retry(attempts=None))
async def surely(sku: str) -> None:
    await bank.mail(sku)

class NoRoom(Rejected): ...

@step(retry=sagas.Retry(attempts=None, maximum=60.0))
async def shelve(sku: str) -> None:
    raise NoRoom(sku)
"""

WRONG = {
    "before a step that may fail": SHOP
    + """
@saga
async def order(sku: str) -> None:
    await pack(sku)
    await charge(sku)
""",
    "before a pivot": SHOP
    + PIVOT
    + """
@saga
async def order(sku: str) -> None:
    await pack(sku)
    await hand_over(sku)
""",
    "beside a step that may fail": SHOP
    + """
@saga
async def order(sku: str) -> None:
    await gather(charge(sku), pack(sku))
""",
    "in a helper, by way of a branch": SHOP
    + """
async def wrap(sku: str) -> None:
    if sku:
        await pack(sku)
@saga
async def order(sku: str) -> None:
    await wrap(sku)
    await charge(sku)
""",
    "in a child saga": SHOP
    + """
@saga
async def wrap(sku: str) -> None:
    await pack(sku)
@saga
async def order(sku: str) -> None:
    await wrap(sku)
    await charge(sku)
""",
    "several of one, side by side or in a loop": """
@step
async def pack(sku: str) -> None:  # wrong: uncompensated-step
    await bank.pack(sku)
@step
async def wrap(sku: str) -> None:  # wrong: uncompensated-step
    await bank.wrap(sku)
@saga
async def order(skus: list[str]) -> None:
    await map_each(pack, skus)
@saga
async def other(skus: list[str]) -> None:
    for sku in skus:
        await wrap(sku)
""",
    "before the body fails, waits only so long, or locks": """
@step
async def a(sku: str) -> None:  # wrong: uncompensated-step
    await bank.pack(sku)
@step
async def b(sku: str) -> None:  # wrong: uncompensated-step
    await bank.pack(sku)
@step
async def c(sku: str) -> None:  # wrong: uncompensated-step
    await bank.pack(sku)
@saga
async def order(sku: str) -> None:
    await a(sku)
    if len(sku) > 3:
        raise ValueError(sku)
@saga
async def other(sku: str) -> None:
    await b(sku)
    await receive("paid", timeout=60)
@saga
async def third(sku: str) -> None:
    await c(sku)
    async with lock(sku):
        pass
""",
    "made without a decorator": """
async def packing(sku: str) -> None:  # wrong: uncompensated-step
    await bank.pack(sku)
pack = step(name="pack")(packing)
@saga
async def order(sku: str) -> None:
    await pack(sku)
    await charge(sku)
""",
    "one attempt after the pivot": PIVOT
    + """
@saga
async def order(sku: str) -> None:
    await hand_over(sku)
    await mail(sku)  # wrong: fallible-after-pivot
""",
    "a few attempts, and so much time": PIVOT
    + """
FEW = Retry()
@step(retry=FEW)
async def tell(sku: str) -> None:
    await bank.mail(sku)
@step(retry=Retry(attempts=None), total_timeout=60)
async def call(sku: str) -> None:
    await bank.mail(sku)
@saga
async def order(sku: str) -> None:
    await hand_over(sku)
    try:
        await tell(sku)  # wrong: fallible-after-pivot
    except Exception:
        print("it is parked before this sees it")
    await call(sku)  # wrong: fallible-after-pivot
""",
    "a rejection that nobody catches": PIVOT
    + """
@step(retry=Retry(attempts=None), rejects=(ValueError,))
async def book(sku: str) -> None:
    await bank.book(sku)
@saga
async def order(sku: str) -> None:
    await hand_over(sku)
    await shelve(sku)  # wrong: fallible-after-pivot
    try:
        await book(sku)  # wrong: fallible-after-pivot
    except ValueError:
        raise
""",
    "a lock, a wait and a failure": PIVOT
    + """
@saga
async def order(sku: str) -> None:
    if sku:
        await hand_over(sku)
    async with lock(sku):  # wrong: fallible-after-pivot
        await surely(sku)
    if await receive("paid", bool, timeout=3):  # wrong: fallible-after-pivot
        raise ValueError(sku)  # wrong: fallible-after-pivot
""",
    "a pivot in a loop": PIVOT
    + """
@saga
async def order(skus: list[str]) -> None:
    for sku in skus:
        await charge(sku)  # wrong: fallible-after-pivot
        await hand_over(sku)  # wrong: fallible-after-pivot
""",
    "a pivot in a child saga": PIVOT
    + """
@saga
async def ship(sku: str) -> None:
    await hand_over(sku)
@saga
async def order(sku: str) -> None:
    await ship(sku)
    await mail(sku)  # wrong: fallible-after-pivot
""",
}

RIGHT = {
    "the last step": PACK
    + """
@saga
async def order(sku: str) -> None:
    await charge(sku)
    await pack(sku)
""",
    "steps that only read": """
@step
async def get_price(sku: str) -> int:
    return await bank.price(sku)
@step
def is_member(sku: str) -> bool:
    return bool(bank.member(sku))
@step
def label(sku: str, count: int) -> str:
    return f"{sku} {round(count)}".upper()
@saga
async def order(sku: str) -> None:
    await check_stock(sku)
    await get_price(sku)
    await is_member(sku)
    await label(sku, 3)
    await charge(sku)
""",
    "stubs, and what cannot visibly fail": PACK
    + """
@step
async def later(sku: str) -> None:
    '''To be written.'''
    raise NotImplementedError
@step
async def note(sku: str) -> str:
    return f"noted {sku}"
@saga
async def order(sku: str) -> None:
    await later(sku)
    await pack(sku)
    await note(sku)
    await later(sku)
""",
    "failures that are caught": PACK
    + """
@saga
async def order(sku: str) -> None:
    await pack(sku)
    try:
        await charge(sku)
    except Exception:
        await charge_again(sku)
@step
async def charge_again(sku: str) -> None: ...
""",
    "compensators in every form": PACK
    + """
@step
async def wrap(sku: str) -> None:
    await bank.wrap(sku)
async def undo(sku: str) -> None: ...
pack.compensator(retry=Retry(attempts=None))(undo)
wrap.compensator(undo)
async def shelving(sku: str) -> None:
    await bank.shelve(sku)
shelve = step(shelving)
@shelve.compensator(timeout=3)
async def unshelve(sku: str) -> None: ...
@saga
async def order(sku: str) -> None:
    await pack(sku)
    await wrap(sku)
    await shelve(sku)
    await charge(sku)
""",
    "other branches": PACK
    + """
@saga
async def order(sku: str) -> None:
    if sku:
        await pack(sku)
        return
    match sku:
        case "a":
            await pack(sku)
            return
        case _:
            await charge(sku)
""",
    "steps that are tried for ever, and rejections that are caught": PIVOT
    + """
PATIENT = Retry(attempts=None)
@step(retry=PATIENT)
async def tell(sku: str) -> None:
    await bank.mail(sku)
@saga
async def order(sku: str) -> None:
    await charge(sku)
    await hand_over(sku)
    await surely(sku)
    await tell(sku)
    try:
        await shelve(sku)
    except NoRoom:
        await surely(sku)
    await receive("signed")
""",
    "what cannot be told is not guessed": PIVOT
    + """
from elsewhere import POLICY, ATTEMPTS
@step(retry=POLICY)
async def tell(sku: str) -> None:
    await bank.mail(sku)
@step(retry=Retry(attempts=ATTEMPTS))
async def call(sku: str) -> None:
    await bank.mail(sku)
@step(retry=Retry(**{"attempts": None}))
async def ring(sku: str) -> None:
    await bank.mail(sku)
@saga
async def order(sku: str) -> None:
    await hand_over(sku)
    await tell(sku)
    await call(sku)
    await ring(sku)
""",
    "before the pivot, and where it did not work": PIVOT
    + """
@saga
async def order(sku: str) -> None:
    await charge(sku)
    try:
        await hand_over(sku)
    except Rejected:
        await mail(sku)
        raise
    await surely(sku)
""",
    "beside the pivot": PIVOT
    + """
@saga
async def order(sku: str) -> None:
    await gather(hand_over(sku), charge(sku))
""",
    "sagas that call themselves": PIVOT
    + """
@saga
async def order(skus: list[str]) -> None:
    if skus:
        await charge(skus[0])
        await order(skus[1:])
""",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_order_is_found(name: str, tmp_path: Path) -> None:
    assert "# wrong:" in WRONG[name]
    lint(WRONG[name], tmp_path)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_order_is_not(name: str, tmp_path: Path) -> None:
    assert "# wrong:" not in RIGHT[name]
    lint(RIGHT[name], tmp_path)


@pytest.mark.parametrize(
    "line",
    ["shelf[sku] = 1", "shelf.pop(sku)", 'bank.execute("UPDATE shelf SET pieces = 0")', "bank.post(sku)"],
)
def test_a_step_that_visibly_acts_and_cannot_be_undone_is_an_error_others_warn(line: str, tmp_path: Path) -> None:
    text = f"""
    shelf = {{}}
    @step
    def check_and_take(sku: str) -> None:
        {line}
    @step
    def take(sku: str) -> None:
        bank.take(sku)
    @saga
    async def order(sku: str) -> None:
        await check_and_take(sku)
        await take(sku)
        await charge(sku)
    """
    _, (acts, may_act) = found_in(text, tmp_path)
    assert (acts.severity, may_act.severity) == (Severity.ERROR, Severity.WARNING)
    assert "check_and_take has no compensator: in saga order, take may fail after it" in acts.reason


def test_few_attempts_after_a_pivot_warn_and_one_is_an_error(tmp_path: Path) -> None:
    text = PIVOT + "@saga\nasync def order(sku: str) -> None:\n    await hand_over(sku)\n    await mail(sku)\n"
    _, (one,) = found_in(text, tmp_path)
    _, (few,) = found_in(text.replace("@step\nasync def mail", "@step(retry=Retry())\nasync def mail"), tmp_path)
    assert (one.severity, few.severity) == (Severity.ERROR, Severity.WARNING)
    assert "gives up after its first failed attempt" in one.reason
    assert "gives up after 3 failed attempts" in few.reason
