"""Imported once by the server that commands are forked from: libraries, nothing of the project.

The project itself is imported by each command, so that faults and edited copies reach all of it.
"""

import importlib
import sys

from tasks.host.environment import prepare_environment

LIBRARIES = (
    *("mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store", "mlflow.tracking"),
    *("pandas", "pyarrow.parquet", "scipy.stats", "sklearn.metrics"),
    *("prefect.task_runners", "rich.table", "typer"),
    *("torch", "transformers.models.bert.modeling_bert"),
)

# Some read their settings when they are imported.
prepare_environment()
for name in [name for name in sys.modules if name.partition(".")[0] == "tasks"]:
    del sys.modules[name]
for name in LIBRARIES:
    importlib.import_module(name)
