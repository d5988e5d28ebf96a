"""What simulated runs are played with: the arguments that every entry point shares, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypedDict, cast

from sagas.errors import RequestError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy
    from sqlalchemy import Engine

    from sagas.core.definitions import Saga, Step
    from sagas.testing.scenarios import Inputs

__all__ = ["CheckOptions", "Options", "made", "refuse_draws", "refuse_world", "refuse_wrong", "simulated"]


class Options(TypedDict, total=False):
    """What runs are played with; ``check`` says what each of them means."""

    world: Callable[[], Any] | None
    view: Callable[[Any], Any] | None
    invariants: Sequence[Callable[..., object]]
    always: Sequence[Callable[[Any], object]]
    signals: Mapping[str, SearchStrategy[Any]] | None
    steps: Sequence[Step[..., Any]]
    deploys: Sequence[Saga[..., Any]]
    late: bool
    database: Callable[[Any], Engine] | None


class CheckOptions(Options, total=False):
    """The same, and how runs are drawn; ``check`` says what each of them means."""

    inputs: Inputs
    runs: int
    seed: int | None


def simulated(options: CheckOptions) -> Options:
    """Leaves out how runs are drawn.

    Raises:
        TypeError: There is no argument of a name that is given.
    """
    _refuse_unknown(options, CheckOptions)
    return cast("Options", {name: value for name, value in options.items() if name in Options.__annotations__})


def refuse_wrong(options: Options) -> None:
    """Refuses what could not be called later, where nobody would see why.

    Raises:
        RequestError: Something is of the wrong kind.
        TypeError: There is no argument of a name that is given.
    """
    _refuse_unknown(options, Options)
    refuse_world(options.get("world"))
    for name in ("view", "database"):
        function: object = options.get(name)
        if function is not None and not callable(function):
            raise RequestError(f"{name}= has to be a function that takes the world, and {function!r} is none")
    for name in ("invariants", "always"):
        given: object = options.get(name, ())
        if not isinstance(given, Sequence) or not all(map(callable, cast("Sequence[object]", given))):
            raise RequestError(f"{name}= has to be a list of functions that take the world, and {given!r} is none")


def _refuse_unknown(given: Iterable[str], known: type) -> None:
    """Refuses misspelt arguments, as Python does where they are listed one by one.

    Raises:
        TypeError: There is no argument of that name.
    """
    names = list(known.__annotations__)
    for name in given:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}=?" if close else f"there are: {', '.join(names)}"
            raise TypeError(f"there is no argument {name}=; {hint}")


def refuse_world(world: object) -> None:
    """Refuses a world where something that makes one is asked for.

    Raises:
        RequestError: It makes none.
    """
    if world is not None and (_is_entered(world) or not callable(world)):
        kind = type(world).__name__
        raise RequestError(
            f"world= has to make a new world for every run, and {world!r} is one already: give what makes it, such as "
            f"world={kind} or world=lambda: {kind}(…); of a @contextmanager the function, and not its call"
        )


def _is_entered(world: object) -> bool:
    """Says whether it is a context manager, and not a class of them."""
    return isinstance(world, AbstractContextManager) and not isinstance(world, type)


def made(world: Any) -> Any:
    """Refuses a world that has to be awaited; gives any other.

    Raises:
        RequestError: It does.
    """
    if hasattr(world, "__await__") or isinstance(world, AbstractAsyncContextManager):
        close = getattr(cast("object", world), "close", None)
        if close is not None:
            close()  # or Python would warn that nobody has awaited it
        raise RequestError(f"world= gave {world!r}, which has to be awaited; make the world without `async`")
    return world


def refuse_draws(runs: object, seed: object, coverage: object = 0.0) -> None:
    """Refuses numbers that are none.

    Raises:
        RequestError: One is not.
    """
    if not isinstance(runs, int) or isinstance(runs, bool) or runs < 1:
        raise RequestError(f"runs= says how many runs to play, so it has to be 1 or more, and not {runs!r}")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise RequestError(f"seed= has to be a whole number, such as the one that a failure names, and not {seed!r}")
    if not isinstance(coverage, (int, float)) or not 0 <= coverage <= 1:
        raise RequestError(f"coverage= is a share, from 0 to 1, and not {coverage!r}")
