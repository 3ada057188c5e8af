"""Using a compressed model: find it, predict, measure, copy."""
