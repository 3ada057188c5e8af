"""Keeping a home well: freeing space, and checking this machine."""
