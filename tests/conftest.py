"""Settings of all tests, and their order."""

import pytest
from hypothesis import settings

# How long an example takes says nothing on a machine that is busy with something else.
settings.register_profile("rosita", deadline=None)
settings.load_profile("rosita")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The short tests of the kernels come last: of processes that share the files, none is then
    left alone with a long one at the end."""
    items.sort(key=lambda item: item.path.parent.name == "core")
