"""Using a compressed model: find it, predict, measure, copy."""

PREDICTION_BATCH = 64
"""Rows that are predicted at a time, unless somebody says otherwise."""
