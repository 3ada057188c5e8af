"""Servers on loopback, workers and schedules."""
