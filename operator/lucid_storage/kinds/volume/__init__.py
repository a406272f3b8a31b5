"""Volume: a claim for storage with its size, growth and use. A migration is in `migration`."""
