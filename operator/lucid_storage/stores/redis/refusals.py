"""What it means that a server refuses a part of a restore."""

from __future__ import annotations

import re

from lucid_storage.errors import LucidError, NotSupportedError, Reason, RefusedError, StoreUnavailableError
from lucid_storage.stores.redis.room import Room
from lucid_storage.stores.redis.wire import ErrorReply, Wire

_LIBRARY = re.compile(rb"#!\S+[^\r\n]*\bname=([A-Za-z0-9_]+)")


def explained(wire: Wire, room: Room, reply: ErrorReply) -> LucidError:
    """Of a key."""
    if reply.word == b"OOM":
        return room.out_of_memory()
    if b"payload version" in reply.text or b"Bad data format" in reply.text:
        return NotSupportedError(
            f"{wire.subject} does not understand a value of this backup; restore into the version of Redis that wrote"
            " it."
        )
    if b"Protocol error" in reply.text:
        return StoreUnavailableError(
            f"{wire.subject} closed the connection over the size of a value: see proto-max-bulk-len and"
            " client-query-buffer-limit there."
        )
    return wire.refusal(reply)


def function_of_another(subject: str, code: bytes) -> LucidError:
    """The names of functions are unique in a server, and REPLACE is for a library of the same name."""
    named = _LIBRARY.match(code)
    library = f"the library {named[1].decode()}" if named else "a library"
    return RefusedError(
        f"{subject} has a function of {library} of the backup in another library, which a restore does not delete;"
        " delete that one (FUNCTION LIST, FUNCTION DELETE), or choose keys by redis.keyPatterns.",
        reason=Reason.RESTORE_BLOCKED,
    )
