"""Importance of attention heads and FFN units, one file per criterion."""
