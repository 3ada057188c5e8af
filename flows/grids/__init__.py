"""Grids: many recipes as one DAG, and the records of their cells."""
