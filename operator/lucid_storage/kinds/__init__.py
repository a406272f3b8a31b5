"""One module a kind, all of the same shape, and the one engine that drives them."""
