"""`make demo`: the whole data layer on a real cluster and real stores, from nothing."""
