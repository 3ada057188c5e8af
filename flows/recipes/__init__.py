"""Recipes: one typed configuration per compression, and what it means on this machine."""
