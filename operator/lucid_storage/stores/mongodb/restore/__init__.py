"""Restoring into MongoDB: loading beside the live data, replaying the oplog by default-deny, swapping by rename."""
