"""Kernels of ROSITA (Liu, Lin and Yuan, AAAI 2021): pure functions of tensors and tables."""
