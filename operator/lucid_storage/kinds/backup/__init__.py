"""Backup: `desired`, `plan`, `deleting` and `results` are pure, `kind` has the hands."""
