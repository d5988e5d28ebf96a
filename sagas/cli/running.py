"""Runs a saga that is named on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
from pydantic_core import from_json, to_json

from sagas.cli.importing import import_module
from sagas.cli.problems import Problem, complain
from sagas.cli.rendering import print_json, render_saga, show
from sagas.coordinator import Coordinator
from sagas.core.definitions import Saga
from sagas.core.registry import Registry
from sagas.core.schema import ValueSchema
from sagas.errors import SagaNotCompleted

if TYPE_CHECKING:
    from sagas.core.operations import SagaCall

__all__ = ["find_saga", "run_saga"]


def run_saga(where: str, text: str, saga_id: str | None, url: str, *, json: bool) -> int:
    """Runs a saga to its end.

    Args:
        where: ``module:saga``.
        text: Its arguments, as a JSON object by name.
        saga_id: Its id; made up if ``None``.
        url: Where the journal is; created if it is not there.
        json: Whether to write JSON.

    Returns:
        The exit code: 0 if it completed, 1 if it was compensated or is stuck.

    Raises:
        Problem: There is no such saga, or the text is no JSON object.
        SagaError: See ``Coordinator.run``.
    """
    saga, others = find_saga(where)
    call = _call(saga, text)
    return anyio.run(_run, url, call, saga_id, others, json)


def find_saga(where: str) -> tuple[Saga[..., Any], list[Saga[..., Any]]]:
    """Imports a saga, from the current directory too.

    Args:
        where: ``module:saga``, or ``file.py:saga``: what the module calls it, or else a saga's own name, which means
            its newest version.

    Returns:
        It, and every saga of its module.

    Raises:
        Problem: It cannot be found or imported.
    """
    module_name, colon, name = where.partition(":")
    if not (module_name and colon and name):
        raise Problem(f"{where!r} names no saga; write MODULE:SAGA or FILE.py:SAGA, such as shop.orders:place_order")
    module = import_module(module_name)
    sagas: dict[str, Saga[..., Any]] = {key: value for key, value in vars(module).items() if isinstance(value, Saga)}
    found = sagas.get(name) or Registry(sagas.values()).newest(name)
    if found is None:
        what = "is no saga" if hasattr(module, name) else "does not exist"
        known = f"its sagas are {', '.join(sorted(sagas))}" if sagas else "it has no sagas"
        raise Problem(f"{name} in {module_name} {what}; {known}")
    return found, list(dict.fromkeys(sagas.values()))


def _call(saga: Saga[..., Any], text: str) -> SagaCall[Any]:
    """Builds the call from JSON.

    Raises:
        Problem: The text is no JSON object of the saga's parameters.
        PayloadError: A value does not fit its parameter.
    """
    try:
        read: object = from_json(text.encode(errors="surrogateescape"), allow_inf_nan=False)
    except ValueError as error:
        raise Problem(f"--input is not JSON: {error}") from error
    names = saga.parameters.names
    form = "{" + ", ".join(f'"{name}": …' for name in names) + "}"
    if not isinstance(read, dict):
        raise Problem(f"--input must be an object with the arguments of {saga.where} by name: {form}")
    given = cast("dict[str, object]", read)
    unknown = [name for name in given if name not in names]
    missing = [name for name in names if name not in given and name not in saga.parameters.defaults]
    if unknown or missing:
        lacks = [f"lacks {', '.join(missing)}"] if missing else []
        surplus = [f"has unknown {', '.join(unknown)}"] if unknown else []
        raise Problem(f"--input {' and '.join(lacks + surplus)}; {saga.where} takes {form}")
    types = saga.parameters.annotations()
    arguments = {
        name: ValueSchema[object](types[name], f"{name} in --input").decode(to_json(value))
        for name, value in given.items()
    }
    return saga(**arguments)


async def _run(
    url: str,
    call: SagaCall[Any],
    saga_id: str | None,
    sagas: list[Saga[..., Any]],
    json: bool,  # noqa: FBT001 - anyio.run hands on positions only
) -> int:
    """Runs a call, prints its story, and gives the exit code."""
    failure: SagaNotCompleted | None = None
    async with Coordinator(url, sagas=sagas, take_over=False) as coordinator:
        handle = await coordinator.start(call, id=saga_id)
        try:
            await handle.result()
        except SagaNotCompleted as error:
            failure = error
        view = await coordinator.get(handle.id)
    if json:
        print_json(view)
    else:
        show(*render_saga(view))
    if failure is None:
        return 0
    complain(str(failure))
    return 1
