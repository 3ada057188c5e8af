"""How registered models are called, and tags that are read again."""

from __future__ import annotations

FINGERPRINT_TAG = "rosita.fingerprint"
SCORE_TAG = "rosita.score"
ARTIFACT_TAG = "rosita.artifact"
GRAPH_SUFFIX = "-onnx"
"""Behind the name of a model: the graph that was made of it."""

NOTE_TAG = "mlflow.note.content"
"""Of a run or an experiment: the text that its page begins with."""
VIEW = "rosita"
"""The view of an experiment's runs that an address of its page asks for."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"

PARENT_TAG = "mlflow.parentRunId"
COMPUTED_BY_TAG = "rosita.computed_by"
"""The run that computed what another took from the cache."""
HANDLE_TAG = "rosita.handle"
"""A run's id in the home's own store, on its copy elsewhere, too."""

RECORDER_TAG = "rosita.recorder"
"""The process that records a run (abandoned.py)."""
DOCUMENT_TAG = "rosita.document"
"""The file of the home that an artifact is a copy of, once its ids are filled in."""
MIRROR_TAG = "rosita.mirror"
"""The server that a run is copied to, without name and password."""
MIRROR_STATE_TAG = "rosita.mirror_state"
WAITING, DONE, REFUSED = "waiting", "done", "refused"
MIRROR_RUN_TAG = "rosita.mirror_run"
"""Its id there."""
MIRROR_REFUSED_TAG = "rosita.mirror_refused"
"""What that server did not accept, and why."""
OF_THIS_HOME = {
    RECORDER_TAG,
    DOCUMENT_TAG,
    MIRROR_TAG,
    MIRROR_STATE_TAG,
    MIRROR_RUN_TAG,
    MIRROR_REFUSED_TAG,
}
"""Not copied."""
