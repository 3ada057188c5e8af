"""Settings of all tests."""

from hypothesis import settings

# How long an example takes says nothing on a machine that is busy with something else.
settings.register_profile("rosita", deadline=None)
settings.load_profile("rosita")
