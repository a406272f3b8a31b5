"""An order in the environment of a worker: in one variable, and in further ones where it is long.

The kernel takes no environment string of more than 131,072 bytes (MAX_ARG_STRLEN), and all of them together up to a
quarter of the stack's limit, 2 MiB as a rule; the API server takes no Job of more than 1.5 MiB.
"""

from __future__ import annotations

from collections.abc import Mapping

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.models.orders import ORDER_VARIABLE

PART_CHARACTERS = 30_000
"""Of at most four bytes each."""
MOST_BYTES = 1_000_000
"""Some 25,000 ids of backups."""


def order_variables(order: str) -> dict[str, str]:
    """The variables that hold an order, by name. Raises RefusedError for one that no Job can hold."""
    held = len(order.encode()) + order.count("$")  # a Job has each `$` twice (kinds/workers/job.py)
    if held > MOST_BYTES:
        raise RefusedError(
            "The chain has more Backups than a worker can be told of, some 25,000: let retention keep fewer, or use"
            " another chain, and delete the objects of old ones.",
            reason=Reason.INVALID_SPEC,
        )
    parts = [order[at : at + PART_CHARACTERS] for at in range(0, len(order), PART_CHARACTERS)]
    return {_name(index): part for index, part in enumerate(parts)}


def order_in(environ: Mapping[str, str]) -> str:
    """The order that a worker was given. Raises KeyError where there is none."""
    found, index = environ[ORDER_VARIABLE], 1
    while (part := environ.get(_name(index))) is not None:
        found, index = found + part, index + 1
    return found


def _name(index: int) -> str:
    return f"{ORDER_VARIABLE}_{index}" if index else ORDER_VARIABLE
