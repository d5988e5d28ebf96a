"""Names are followed from file to file, and nothing is imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sagas.linting import Checked, NoSuchTarget, check

STEPS = """
import time
from sagas import step
raise RuntimeError("this is never run")

@step
async def pack(sku: str) -> None:
    await bank.pack(sku)

@step
async def charge(sku: str) -> None:
    await bank.charge(sku)

async def nap() -> None:
    time.time()
"""
SAGAS = """
from sagas import saga
{imports}

@saga
async def order(sku: str) -> None:
    {pack}(sku)
    await {pack}(sku)
    await {charge}(sku)
    await {nap}()
"""
ALL = [("shop/orders.py", "forgotten-await"), ("shop/steps.py", "uncompensated-step"), ("shop/steps.py", "wall-clock")]


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / f"{name if '/' in name else name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def found(checked: Checked) -> list[tuple[str, str]]:
    return [(finding.path, finding.rule) for finding in checked.findings]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("package", [True, False], ids=["package", "plain directory"])
@pytest.mark.parametrize(
    ("imports", "prefix"),
    [
        ("from .steps import charge, nap, pack", ""),
        ("from shop.steps import charge, nap, pack", ""),
        ("from shop import steps", "steps."),
        ("from . import steps", "steps."),
        ("import shop.steps", "shop.steps."),
        ("import shop.steps as s", "s."),
        ("from .steps import *", ""),
        ("from .exports import charge, nap, pack", ""),
        ("from .exports import everything as e", "e."),
    ],
)
def test_steps_and_helpers_of_other_files_are_followed(imports: str, prefix: str, package: bool, here: Path) -> None:
    names = {name: f"{prefix}{name}" for name in ("pack", "charge", "nap")}
    write(here, shop__steps=STEPS, shop__orders=SAGAS.format(imports=imports, **names))
    write(here, shop__exports="from .steps import charge, nap, pack as pack\nfrom . import steps as everything\n")
    if package:
        (here / "shop" / "__init__.py").touch()
    assert found(check(["shop/orders.py"])) == ALL


def test_the_decorators_are_known_by_any_name(here: Path) -> None:
    write(here, own="from sagas import saga as workflow, step\nimport sagas as lib\n")
    write(
        here,
        shop="""
import sagas as lib
from sagas import saga as s, step as st
from own import workflow, lib as mine
import time
@lib.saga
async def a() -> None:
    time.time()
@s(version="2")
async def b() -> None:
    time.time()
@workflow
async def c() -> None:
    time.time()
@mine.saga
async def d() -> None:
    time.time()
async def body() -> None:
    time.time()
e = s(body)
""",
    )
    assert [(finding.line, finding.rule) for finding in check(["shop.py"]).findings] == [
        (line, "wall-clock") for line in (8, 11, 14, 17)
    ]
    assert [finding.line for finding in check(["shop.py:e"]).findings] == [19]


def test_compensators_in_other_files_count(here: Path) -> None:
    write(
        here, steps=STEPS, undo="from steps import pack\n@pack.compensator\nasync def unpack(sku: str) -> None: ...\n"
    )
    write(here, orders=SAGAS.format(imports="from steps import *", pack="pack", charge="pack", nap="pack"))
    assert ("steps.py", "uncompensated-step") in found(check(["orders.py"]))
    assert ("steps.py", "uncompensated-step") not in found(check(["orders.py", "undo.py"]))


def test_modules_files_and_directories_are_found(here: Path) -> None:
    write(here, **{"src/shop/__init__": "", "src/shop/orders": "import x\n", "src/shop/deep/more": ""}, other="")
    assert check(["src"]).files == 3
    assert check(["shop.orders"]).files == 1
    assert check(["shop"]).files == 3
    assert check(["src/shop/orders.py", "shop.orders", "other"]).files == 2
    assert check(["shop.deep"]).files == 1


def test_environments_and_hidden_directories_are_left_out(here: Path) -> None:
    write(here, shop="", lib__b="", **{".hidden/d": "", "env/lib/a": "", "node_modules/c": ""})
    (here / "env" / "pyvenv.cfg").touch()
    (here / "__pycache__").mkdir()
    (here / "__pycache__" / "e.py").touch()
    assert check(["."]).files == 2  # shop.py and lib/b.py


def test_one_saga_or_a_list_of_them_can_be_named(here: Path) -> None:
    text = "import time\nfrom sagas import saga\n"
    for name in "abc":
        text += f"@saga\nasync def {name}() -> None:\n    time.time()\n"
    write(here, shop=f"{text}SOME = [a, b]\n")
    for place, lines in {"shop:a": [5], "shop.py:c": [11], "shop:SOME": [5, 8], "shop": [5, 8, 11]}.items():
        assert [finding.line for finding in check([place]).findings] == lines, place


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("absent", "there is no module absent; it is looked for in"),
        ("shop.absent", "there is no module shop.absent"),
        ("absent.py", "there is no file absent.py"),
        ("absent/", "there is no file absent/"),
        ("empty", "there is no Python file in empty"),
        (":name", "names no code; write a file, a directory, MODULE or MODULE:NAME"),
        ("shop:", "names no code"),
        ("shop:absent", "absent does not exist in shop.py"),
        ("sys", "there is no module sys"),
        ("math", "math"),
    ],
)
def test_what_is_not_there_is_told_in_a_sentence(place: str, says: str, here: Path) -> None:
    write(here, shop="x = 1\n")
    (here / "empty").mkdir()
    with pytest.raises(NoSuchTarget) as told:
        check([place])
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_nothing_is_imported(here: Path) -> None:
    write(here, never_imported="import sys\nsys.exit('imported')\n")
    write(here, shop="from never_imported import x\nfrom sagas import saga\n@saga\nasync def a() -> None:\n    x()\n")
    check(["shop", "never_imported"])
    assert "shop" not in sys.modules
    assert "never_imported" not in sys.modules


def test_files_that_import_each_other_are_followed_to_an_end(here: Path) -> None:
    write(here, a="from b import x\nfrom b import *\n", b="from a import x\nfrom a import *\n")
    write(
        here,
        shop="""
from sagas import saga, step
from a import x, y
z = z2
z2 = z
@x
@step(retry=z)
async def pack() -> z: ...
@z.compensator
async def unpack(result: z2) -> None: ...
@saga
async def order() -> None:
    await x()
    await y()
    await z()
    await pack()
""",
    )
    assert found(check(["shop", "a", "b"])) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"def f(:\n    pass\n", "invalid syntax"),
        (b"x = 1\n\xff\xfe\n", "utf-8"),
        (b"# coding: nonsense\n", "encoding"),
        (b"x = '\0'\n", "null"),
        (b"if x:\ny\n", "indented block"),
        (b"x = " + b"(" * 5000 + b")" * 5000, ""),
    ],
)
def test_a_file_that_is_no_python_is_a_finding(text: bytes, says: str, here: Path) -> None:
    (here / "shop.py").write_bytes(text)
    (here / "fine.py").write_text("x = 1\n", encoding="utf-8")
    checked = check(["."])
    assert found(checked) == [("shop.py", "syntax-error")]
    assert checked.files == 2
    assert checked.findings[0].line >= 1
    assert says.lower() in checked.findings[0].reason.lower()


def test_a_file_that_cannot_be_parsed_is_none_that_others_can_use(here: Path) -> None:
    write(
        here,
        steps="def f(:\n",
        shop="from steps import f\nfrom sagas import saga\n@saga\nasync def a() -> None:\n    await f()\n",
    )
    assert found(check(["shop.py"])) == []


def test_columns_count_characters(here: Path) -> None:
    write(
        here,
        shop="import time\nfrom sagas import saga\n@saga\nasync def a() -> str:\n    return 'äöü€😀', time.time()\n",
    )
    (finding,) = check(["shop"]).findings
    assert (finding.column, finding.end_column) == (21, 32)


def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing(here: Path) -> None:
    body = "@saga\nasync def a() -> None:\n    time.time()  # sagas: ignore[randomness]\n"
    text = f"import time\nfrom sagas import saga\n{body}".replace("\n", "\r\n")
    (here / "shop.py").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [(finding.line, finding.rule) for finding in check(["shop"]).findings] == [
        (5, "wall-clock"), (5, "unused-ignore"),
    ]  # fmt: skip
