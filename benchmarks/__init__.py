"""Ours beside Kedro's own server: ``python -m benchmarks``."""
