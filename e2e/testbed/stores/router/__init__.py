"""A stand-in for mongos, for tests alone: it relays to a real config server and real shards.

It is no mongos. Documents are read and written by the router that each shard carries inside itself for its own needs
(`clusterInsert` and the like), with real shard versions; changes of the catalogue go as the internal commands that a
mongos would send. It has no logins, no sessions and no transactions, puts events of a change stream in no order between
shards, and knows only the commands of `commands`, `definitions`, `documents` and `listings`.
"""
