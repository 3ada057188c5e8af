"""One Prefect task per stage around the kernels, with the cache and the records they share."""

import os

# MLflow reads the first when it is imported. Its bars of file copies would break the display.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
