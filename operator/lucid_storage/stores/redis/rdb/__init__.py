"""Redis's file of a data set (RDB), versions 9 to 12: read as a stream, checked, never decoded deeper than needed."""
