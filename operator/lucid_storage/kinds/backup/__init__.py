"""Backup: `desired`, `observed`, `plan`, `leaving` and `results` are pure, `kind` has the hands."""
