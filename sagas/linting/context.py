"""What every check needs: what names mean, what is declared, and where findings go."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sagas.linting.declarations import Declarations, Declared
from sagas.linting.findings import Findings
from sagas.linting.names import Names, Place

if TYPE_CHECKING:
    from sagas.linting.project import Project
    from sagas.linting.rules import Severity
    from sagas.linting.scopes import Function, Scope

__all__ = ["Context"]


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What every check needs.

    Attributes:
        project: The files.
        names: What names mean.
        declarations: What is declared.
        findings: Where findings go.
        visited: Every function that was looked at, so that what is silenced there can be told to be needless.
    """

    project: Project
    names: Names
    declarations: Declarations
    findings: Findings = field(default_factory=Findings)
    visited: set[ast.AST] = field(default_factory=set[ast.AST])

    @classmethod
    def of(cls, project: Project) -> Context:
        """Makes one for a project."""
        names = Names(project)
        return cls(project, names, Declarations(project, names))

    def report(
        self,
        rule: str,
        scope: Scope,
        node: ast.AST,
        reason: str,
        *,
        remedy: str | None = None,
        severity: Severity | None = None,
    ) -> None:
        """Notes that something is wrong; arguments as those of ``Findings.add``."""
        self.findings.add(rule, scope.of_module.source, node, reason, remedy=remedy, severity=severity)

    def dotted(self, expression: ast.expr | None, scope: Scope) -> str:
        """Gives the full name of what is not in the project, or ``""``."""
        return self.names.dotted(expression, scope)

    def declared(self, expression: ast.expr | None, scope: Scope) -> Declared | None:
        """Says which declaration an expression means, if it does."""
        return self.declarations.of(expression, scope)

    def plain(self, expression: ast.expr | None, scope: Scope) -> tuple[Function, Scope] | None:
        """Gives the function of the project that an expression means, if it is declared as nothing; and its names."""
        found = self.names.meaning(expression, scope)
        if not isinstance(found, Place) or isinstance(found.node, ast.ClassDef):
            return None
        if self.declarations.of_place(found) is not None:
            return None
        return found.node, found.scope.of_module.scopes[found.node]

    def is_class(self, expression: ast.expr | None, scope: Scope, root: str, depth: int = 0) -> bool:
        """Says whether an expression means a class, or one derived from it, as far as the project tells."""
        found = self.names.meaning(expression, scope)
        if isinstance(found, str):
            return found == root
        if not isinstance(found, Place) or not isinstance(found.node, ast.ClassDef) or depth > 10:  # noqa: PLR2004
            return False
        return any(self.is_class(base, found.scope, root, depth + 1) for base in found.node.bases)
