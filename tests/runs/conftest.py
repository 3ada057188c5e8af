"""A home in which `rosita compress` has finished once, its servers, and the installed command."""

from finished_homes import (  # noqa: F401
    copied_grid,
    copied_home,
    grid_home,
    in_own_process,
    records,
    servers,
    smoke_home,
)
