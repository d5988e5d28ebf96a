"""Paths span a partial order; a rollback goes through its reverse, side-by-side branches side by side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas.core.paths import follows, is_within, parse
from sagas.core.rollback import UndoOrder

# A tree of sequences and sets of branches; ``None`` is a step.
Tree = list["Tree"] | tuple["Tree", ...] | None
_TREES: st.SearchStrategy[Tree] = st.recursive(
    st.none(),
    lambda inner: st.lists(inner, min_size=1, max_size=4) | st.lists(inner, min_size=1, max_size=4).map(tuple),
    max_leaves=14,
)


def paths_of(tree: Tree, at: str = "") -> list[str]:
    """Numbers the steps of a tree, a list being a sequence and a tuple a set of branches."""
    if tree is None:
        return [at or "1"]
    if not at:
        return [path for index, below in enumerate(tree, 1) for path in paths_of(below, str(index))]
    mark = ":" if isinstance(tree, tuple) else "."
    return [path for index, below in enumerate(tree) for path in paths_of(below, f"{at}{mark}{index}")]


def later_than(tree: Tree, at: str = "") -> set[tuple[str, str]]:
    """Lists the pairs (later, earlier), read off the tree itself."""
    if tree is None:
        return set()
    side_by_side = isinstance(tree, tuple) and bool(at)
    first, mark = (0, ":" if side_by_side else ".") if at else (1, "")
    parts = [(below, f"{at}{mark}{index}") for index, below in enumerate(tree, first)]
    pairs = {pair for below, place in parts for pair in later_than(below, place)}
    if not side_by_side:
        for index, (below, place) in enumerate(parts):
            for other, there in parts[index + 1 :]:
                pairs |= {(x, y) for x in paths_of(other, there) for y in paths_of(below, place)}
    return pairs


@given(_TREES)
def test_a_path_tells_what_follows_what(tree: Tree) -> None:
    """Exactly as the tree says."""
    paths, pairs = paths_of(tree), later_than(tree)
    assert {(x, y) for x in paths for y in paths if follows(x, y)} == pairs


@given(_TREES)
def test_follows_is_a_strict_partial_order(tree: Tree) -> None:
    """Nothing follows itself, no two follow each other, and it is transitive."""
    paths = paths_of(tree)
    pairs = {(x, y) for x in paths for y in paths if follows(x, y)}
    assert all((y, x) not in pairs for x, y in pairs)
    assert all((x, z) in pairs for x, y in pairs for y2, z in pairs if y == y2)


@given(tree=_TREES, data=st.data())
def test_undo_order_is_the_reverse_causal_order(tree: Tree, data: st.DataObject) -> None:
    """Against brute force, undoing in any order that it allows: whose turn it is = nothing left follows it."""
    paths, pairs = paths_of(tree), later_than(tree)
    left = set(data.draw(st.lists(st.sampled_from(paths), unique=True)))
    order = UndoOrder(sorted(left))

    def free() -> set[str]:
        return {x for x in left if not any((y, x) in pairs for y in left)}

    begun = set(order.first())
    assert begun == free()
    while left:
        path = data.draw(st.sampled_from(sorted(begun)))
        left.discard(path)
        begun.discard(path)
        more = order.undone(path)
        assert len(set(more)) == len(more)
        assert not begun & set(more)
        begun |= set(more)
        assert begun == free()
        assert order.left == len(left)
    assert not begun


def test_a_branch_that_cannot_go_on_holds_up_only_what_came_before_it() -> None:
    """5: independent branches go on being undone."""
    order = UndoOrder(["1", "2:0.1", "2:0.2", "2:1.1", "2:1.2"])
    assert order.first() == ["2:0.2", "2:1.2"]
    assert order.undone("2:1.2") == ["2:1.1"]
    assert order.undone("2:1.1") == []  # 2:0.2 holds up 2:0.1 and 1
    assert order.undone("2:0.2") == ["2:0.1"]
    assert order.undone("2:0.1") == ["1"]


def test_nothing_to_undo_is_an_order_too() -> None:
    """It is done at once."""
    assert (UndoOrder([]).first(), UndoOrder([]).left) == ([], 0)


@pytest.mark.parametrize(
    ("path", "place", "within"),
    [
        ("1", "", True),
        ("2.1", "2", True),
        ("2:1.4", "2:1", True),
        ("2", "2", True),
        ("21", "2", False),
        ("2", "2.1", False),
    ],
)
def test_a_place_holds_itself_and_what_is_below_it(path: str, place: str, within: bool) -> None:
    """By components, not by characters."""
    assert is_within(path, place) is within


def test_a_path_is_a_row_of_components() -> None:
    """``.`` leads into a sequence, ``:`` into one of several branches."""
    assert parse("3:0.1") == ((False, 3), (True, 0), (False, 1))


@pytest.mark.parametrize("text", ["x", "1..2", "1.", "1:a", "1 2", "1.2x"])
def test_what_is_no_path_is_refused(text: str) -> None:
    """With the text in the message."""
    with pytest.raises(ValueError, match="is not a path"):
        parse(text)
