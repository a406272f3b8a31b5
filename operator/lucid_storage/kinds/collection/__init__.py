"""Collection: `desired` and `plan` are pure, `kind` has the hands."""
