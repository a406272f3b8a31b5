"""Routes by subject. A route parses, calls the backend once and answers."""
