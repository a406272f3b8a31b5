"""Restore: planned and staged by workers, swapped by the operator that leads."""
