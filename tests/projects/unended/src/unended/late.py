"""Imported by the node alone."""

KEPT = []
