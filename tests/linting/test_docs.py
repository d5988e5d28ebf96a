"""The pages are right about the rules, and what they show is right by the rules."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from sybil import Document
from sybil.parsers.markdown import CodeBlockParser

import sagas
from sagas.linting import RULES, check
from sagas.linting.names import LIBRARY, OPERATIONS
from tests.docs.pages import CHECKING, DEPLOYING, DOCS, PAGES, ROOT, TUTORIAL, name_of

# These are several files each; that a file is right does not depend on the others.
IN_FILES = (DEPLOYING, TUTORIAL)
# What is wrong on this page is wrong on purpose, and another test reads it.
SHOWN = [page for page in PAGES if page != CHECKING]


def _rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_rules", DOCS / "make_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_rules_is_up_to_date() -> None:
    rules = _rules()
    assert rules.PAGE.read_text(encoding="utf-8") == rules.page(), "run `python docs/make_rules.py`"


def test_every_rule_has_an_example_and_no_other_has() -> None:
    assert list(_rules().EXAMPLES) == list(RULES)


def test_all_operations_of_the_library_are_known_and_no_others() -> None:
    declaring = {"saga", "step", "current_step"}
    assert {name for name in sagas.__all__ if name.islower()} - declaring == OPERATIONS
    assert set(sagas.__all__) >= LIBRARY


@pytest.mark.parametrize("rule", RULES)
def test_the_wrong_example_of_a_rule_breaks_it_and_the_right_one_breaks_none(rule: str, tmp_path: Path) -> None:
    rules = _rules()
    example = rules.EXAMPLES[rule]
    path = tmp_path / "example.py"
    path.write_text(f"{rules.PREAMBLE}\n\n{example.wrong}\n", encoding="utf-8")
    assert {finding.rule for finding in check([str(path)], roots=[]).findings} == {rule}
    path.write_text(f"{rules.PREAMBLE}\n\n{example.right}\n", encoding="utf-8")
    assert check([str(path)], roots=[]).findings == ()


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_rules_are_written_as_sentences_with_names_for_switches(rule: object) -> None:
    name, _, reason, remedy = RULES[rule.id]  # type: ignore[attr-defined]  # a rule, which pytest hands over as any
    assert name == name.lower()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz-")
    assert reason.endswith(".")
    assert remedy.endswith(".")


def _blocks(page: Path) -> list[str]:
    """Gives a page's Python as files, in which each line has the number that it has on the page."""
    whole: list[str] = []
    for example in Document.parse(str(page), CodeBlockParser("python", evaluator=lambda _: None)).examples():
        before = 0 if page in IN_FILES or not whole else whole[-1].count("\n")
        text = "\n" * (example.line + example.parsed.line_offset - before) + example.parsed
        if page in IN_FILES or not whole:
            whole.append(text)
        else:
            whole[-1] += text
    return whole


@pytest.mark.parametrize("page", SHOWN, ids=name_of)
def test_what_the_documentation_shows_is_right_by_the_rules(page: Path, tmp_path: Path) -> None:
    """Warnings count, and so do comments that silence nothing."""
    for number, text in enumerate(_blocks(page)):
        path = tmp_path / f"block_{number}.py"
        path.write_text(text, encoding="utf-8")
        assert check([str(path)], roots=[]).findings == ()


def test_pages_with_sagas_are_among_them() -> None:
    assert sum("@saga" in text for page in SHOWN for text in _blocks(page)) > 15


def test_the_hook_for_pre_commit_starts_the_command() -> None:
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8").splitlines()
    assert {"- id: sagas-check", "  language: python", "  entry: sagas check", "  types: [python]"} <= set(hook)
    assert "sagas-check" in CHECKING.read_text(encoding="utf-8")
