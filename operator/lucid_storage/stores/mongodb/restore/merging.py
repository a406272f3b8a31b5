"""What a restore in place does without consent to replace: it adds the documents whose `_id` is absent (rule 2.3).

The backup was loaded and replayed beside the live data, so that each document is as it was at one moment. The server
itself copies what is absent, and leaves every document that is there as it is.
"""

from __future__ import annotations

from lucid_storage.errors import DuplicateKeysError, Reason
from lucid_storage.stores.mongodb.restore.catalog import Tracked
from lucid_storage.stores.mongodb.restore.target import Target


def add_absent(target: Target, tracked: Tracked) -> None:
    """Harmless to repeat. Raises DuplicateKeysError."""
    database, name = tracked.place.database, tracked.name[1]
    into = {
        "into": {"db": database, "coll": name},
        "on": "_id",
        "whenMatched": "keepExisting",
        "whenNotMatched": "insert",
    }
    try:
        target.write(
            database,
            {
                "aggregate": tracked.place.collection,
                "pipeline": [{"$merge": into}],
                "cursor": {},
                "bypassDocumentValidation": True,
            },
            f"add what is absent in {database}.{name}",
        )
    except DuplicateKeysError:
        raise DuplicateKeysError(
            f"Documents of the backup have keys that a unique index of {database}.{name} holds already; some of its"
            " absent documents were added. Remove the documents with these keys, or set dropExisting to true.",
            reason=Reason.DUPLICATE_KEYS,
        ) from None
