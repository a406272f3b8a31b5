"""Index on MongoDB: `desired`, `strategy` and `plan` are pure, `kind` has the hands."""
