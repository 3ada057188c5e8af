"""What people fill in to start a deployed flow: the fields of the forms in Prefect's UI.

Prefect makes a JSON schema from these types, shows it as a form, and refuses values that do not fit
it. What no schema can say is checked as the run starts, by the same functions as on the command
line. A whole recipe as a form would have a hundred fields, so a form names a recipe and what to
change in it.

No field may be null: Prefect shows a choice of types in place of a field then. What is left as it
is says so by a value of its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flows.grids.shipped import SMOKE_GRID, TEMPLATES
from flows.recipes.shipped import RECIPES
from tasks.stages.catalogue import catalogue

GRIDS = (*TEMPLATES, str(SMOKE_GRID["name"]))
FILE = r"^$|\.(ya?ml|toml)$"
SETTING = r"^[a-z_]+(\.[a-z0-9_]+)*=.*$"
AS_IT_IS = 0
"""A size that the recipe decides."""
OWN_SEED = -1
"""The recipe decides."""
NO_RECIPE = "-"

RecipeName = Annotated[str, Field(json_schema_extra={"enum": list(RECIPES)})]
RecipeOrNone = Annotated[str, Field(json_schema_extra={"enum": [NO_RECIPE, *RECIPES]})]
GridName = Annotated[str, Field(json_schema_extra={"enum": list(GRIDS)})]
StageName = Annotated[str, Field(json_schema_extra={"enum": list(catalogue())})]
File = Annotated[str, Field(pattern=FILE)]
Setting = Annotated[str, Field(pattern=SETTING)]
Seed = Annotated[int, Field(ge=OWN_SEED, lt=2**32)]
GridSeed = Annotated[int, Field(ge=0, lt=2**32)]
Size = Annotated[int, Field(ge=AS_IT_IS)]
Processes = Annotated[int, Field(ge=1)]
Preflight = Literal["auto", "yes", "no"]
Scope = Literal["follow", "only", "downstream"]
Format = Literal["markdown", "html", "tables"]
