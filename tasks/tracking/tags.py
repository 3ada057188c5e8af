"""How registered models are called, and the tags by which a champion is chosen."""

from __future__ import annotations

FINGERPRINT_TAG = "rosita.fingerprint"
SCORE_TAG = "rosita.score"
ARTIFACT_TAG = "rosita.artifact"
GRAPH_SUFFIX = "-onnx"
"""Behind the name of a model: the graph that was made of it."""
