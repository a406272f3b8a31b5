"""Reading a whole deployment for a backup: one pinned member, raw batches, and its oplog. Synchronous, for threads."""
