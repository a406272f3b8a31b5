"""ShardedCollection: everything but `kind`, which has the hands, is pure; `plan` is where to begin."""
