"""Makes pages out of templates, and tells values in words."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import orjson

from sagas.errors import DeclarationError

if TYPE_CHECKING:
    import jinja2

__all__ = ["STATIC", "address", "drawing_style", "duration", "pretty", "render", "rough", "stamp", "templates"]

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"
_UNITS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
# Characters of a value that a page shows.
_MOST_SHOWN: Final = 20_000


@cache
def templates() -> jinja2.Environment:
    """Gives the templates.

    Raises:
        DeclarationError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise DeclarationError(f"the console needs {error.name}: pip install 'sagakit[console]'") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,  # whatever a template is called: what sagas say is never markup
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared: dict[str, Any] = {"address": address, "assets": _assets()}
    environment.globals.update(shared)
    environment.filters.update(stamp=stamp, duration=duration, rough=rough, pretty=pretty, counted=counted)
    return environment


@cache
def _assets() -> str:
    """Gives a text that changes with the files that browsers keep."""
    whole = hashlib.blake2b(digest_size=6)
    whole.update(drawing_style().encode())
    for path in sorted(STATIC.iterdir()):
        whole.update(path.read_bytes())
    return whole.hexdigest()


def drawing_style() -> str:
    """Gives the style sheet of drawings."""
    from sagas.drawing import STYLE

    return STYLE


def render(template: str, **told: Any) -> str:
    """Fills in a template."""
    return templates().get_template(template).render(told)


def address(page: str, **query: object) -> str:
    """Gives the address of a page, from any page: what is empty is left out.

    All pages are side by side, so that this holds wherever they are mounted.
    """
    told = [(name, str(value)) for name, value in query.items() if value is not None and value != ""]
    return f"{page or './'}?{urlencode(told)}" if told else page or "./"


def stamp(at: datetime | None, *, precise: bool = False) -> str:
    """Tells a moment, in UTC."""
    if at is None:
        return ""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") + (f".{at.microsecond // 1000:03d}" if precise else "")


def duration(seconds: float | None) -> str:
    """Tells how long something took; as the command line does."""
    from sagas.drawing.words import duration as told

    return "" if seconds is None else told(max(seconds, 0.0))


def rough(seconds: float) -> str:
    """Tells how long ago something was, right at a glance; as the script in the page does when time goes on."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def counted(number: int) -> str:
    """Writes a number so that people can read it."""
    return f"{number:,}"


def pretty(value: object) -> str:
    """Writes a value of JSON's types for people, up to a length."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode()
    except (TypeError, ValueError):  # numbers beyond 64 bits
        text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}\n… {len(text) - _MOST_SHOWN} more characters"
