"""File systems as stores: a tree of files is read entry by entry, with everything that a copy must keep."""
