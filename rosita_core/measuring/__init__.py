"""Measuring: scores of predictions and costs of models."""
