"""`make generate`: every generated file of the project, written or compared by one command."""
