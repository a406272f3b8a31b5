"""Somebody drops an index behind the operator's back."""

import time

from demo.install import DATABASE
from testbed.bed import Stores
from testbed.errors import TestbedError

COLLECTION = "users"
KEYS = [("email", 1)]
DEADLINE = 30.0


def show(stores: Stores) -> None:
    """Drop it, and print how long it takes to come back. Raises TestbedError when it does not."""
    with stores.mongodb.client() as client:
        collection = client[DATABASE][COLLECTION]
        name = next(ix["name"] for ix in collection.list_indexes() if list(ix["key"].items()) == KEYS)
        print(f"\nDrift: dropping the index {name} of {DATABASE}.{COLLECTION} behind the operator's back ...")
        collection.drop_index(name)
        began = time.monotonic()
        while name not in {ix["name"] for ix in collection.list_indexes()}:
            if time.monotonic() - began > DEADLINE:
                raise TestbedError(f"the index {name} did not come back within {DEADLINE:.0f} s")
            time.sleep(0.005)
        print(f"  ... it is back after {(time.monotonic() - began) * 1000:.0f} ms")
