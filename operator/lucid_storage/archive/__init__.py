"""The archive: stream format, timeline, retention and destinations."""
