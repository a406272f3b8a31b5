"""`make bench`: figures of the operator, each beside its limit or a peer measured in the same run."""
