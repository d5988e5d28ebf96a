"""The pytest plugin, for those who name it: ``pytest -p sagas.testing.plugin``, or ``pytest_plugins = […]``.

Where sagakit is installed, pytest finds it by itself, as ``sagas``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import _sagas_pytestplugin
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"the plugin needs {error.name}: pip install 'sagakit[testing]'", name=error.name
    ) from error

if TYPE_CHECKING:
    import pytest

__all__ = ["pytest_addoption"]

_NAME = "sagas"


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Registers it, unless it is there already."""
    if not pluginmanager.has_plugin(_NAME):
        pluginmanager.register(_sagas_pytestplugin, _NAME)
