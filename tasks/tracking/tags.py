"""Tags of a registered model's version, by which the champion is chosen."""

from __future__ import annotations

FINGERPRINT_TAG = "rosita.fingerprint"
SCORE_TAG = "rosita.score"
