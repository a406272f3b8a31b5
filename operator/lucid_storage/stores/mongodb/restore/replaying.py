"""The replay carried out: steps of the rewriter as applyOps on staged collections.

applyOps runs with `allowAtomic: false`, since the atomic form locks the whole server for each batch. Nobody reads
staged collections, so a transaction need not show up at once there; it is whole when the replay ends.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence

import bson

from lucid_storage.errors import LucidError, Reason, RefusedError, ServerRefusedError
from lucid_storage.stores.mongodb.errors import refuses_content
from lucid_storage.stores.mongodb.restore.catalog import FUNCTIONS, Tracked, public_name
from lucid_storage.stores.mongodb.restore.entries import RAW_OPTIONS, Document, refused
from lucid_storage.stores.mongodb.restore.inserted import Inserted
from lucid_storage.stores.mongodb.restore.rewriting import CreateStaged, DropStaged, Step, Write
from lucid_storage.stores.mongodb.restore.target import Target

BATCH_OPERATIONS = 1000
BATCH_BYTES = 4 * 1024 * 1024
AFTER_FAILURE = 50
"""Operations at a time for the rest of a batch, where the server stops at what fails: so few are sent in vain."""
_FAILED = 8
"""What applyOps answers when some operations could not be applied; `results` says which."""
_UPDATE_OF_NOTHING = 218
_NAMESPACE_EXISTS = 48
_TOO_LARGE = 10334
_ANOTHER_KEY = frozenset({66, 13596})
"""What a server answers when a document would get another `_id` than the one that it has the place of."""


class _Judged(Container[int]):
    """Answers that are about an operation, and not about the server."""

    def __contains__(self, code: object) -> bool:
        return isinstance(code, int) and (code in (_FAILED, _UPDATE_OF_NOTHING) or refuses_content(code))


_JUDGED = _Judged()


class Replayer:
    """Applies steps in order. Raises LucidError; what was applied before stays in the staged collections."""

    def __init__(
        self,
        target: Target,
        report: Callable[[int, int], None] = lambda *_: None,
        inserted: Inserted | None = None,
    ) -> None:
        self._target = target
        self._inserted = inserted or Inserted(target)
        self._report = report
        self._batch: list[Write] = []
        self._bytes = 0

    def apply(self, steps: Iterable[Step]) -> None:
        """Takes steps; writes are sent together with later ones."""
        for step in steps:
            if isinstance(step, Write):
                self._add(step)
            else:
                self.flush()
                self._define(step)

    def flush(self) -> None:
        """Returns when all that was taken is on a majority of the members."""
        if not self._batch:
            return
        batch, size = self._batch, self._bytes
        self._batch, self._bytes = [], 0
        self._target.wait_for_secondaries()
        self._note(batch)
        self._send_all(batch)
        self._report(size, len(batch))

    def create(self, tracked: Tracked, options: Document) -> None:
        """Makes an empty collection. One of the run's own name that is there is the one of a command sent twice, and
        so is one under a live name where that happened. Raises RefusedError where somebody else made that.
        """
        resent: list[bool] = []
        answer = self._target.write(
            tracked.place.database,
            {"create": public_name(tracked.place.collection), **options},
            f"make {tracked.name[0]}.{tracked.name[1]}",
            expected={_NAMESPACE_EXISTS},
            content=True,
            sent_again=lambda: resent.append(True),
        )
        if not answer.get("ok") and not tracked.staged and not resent:
            raise RefusedError(
                f"{tracked.place.database}.{public_name(tracked.place.collection)} was made by somebody while it was"
                " restored; stop the application that writes to it, then restore again.",
                reason=Reason.TARGET_NOT_EMPTY,
            )

    def _add(self, write: Write) -> None:
        # Only an estimate for the batch: a large document is the one that counts.
        size = sum(len(_raw(value)) for value in write.operation.values() if isinstance(value, Mapping))
        if self._bytes + size > BATCH_BYTES:
            self.flush()
        self._batch.append(write)
        self._bytes += size
        if len(self._batch) >= BATCH_OPERATIONS:
            self.flush()

    def _define(self, step: Step) -> None:
        if isinstance(step, CreateStaged):
            self.create(step.tracked, step.options)
        elif isinstance(step, DropStaged) and step.place.collection == FUNCTIONS:
            self._inserted.empty(step.place)
        elif isinstance(step, DropStaged):
            self._target.drop(step.place.database, step.place.collection)
        elif not isinstance(step, Write):
            self._target.write(
                step.place.database,
                {"collMod": public_name(step.place.collection), **step.command},
                f"resize {step.place.namespace}",
                content=True,
            )

    def _note(self, batch: list[Write]) -> None:
        for place in {write.place for write in batch if self._inserted.follows(write.place)}:
            made = (w.operation["o"] for w in batch if w.place == place and w.operation["op"] == "i")
            self._inserted.note(place, [_raw(one) for one in made if isinstance(one, Mapping)])

    def _send(self, batch: list[Write], resent: list[bool]) -> dict[str, object]:
        return self._target.write(
            "admin",
            {
                "applyOps": [dict(write.operation) for write in batch],
                "allowAtomic": False,
                # Otherwise the server makes a document of whatever an update finds missing.
                "alwaysUpsert": False,
                "bypassDocumentValidation": True,
            },
            "replay the oplog",
            expected=_JUDGED,
            sent_again=lambda: resent.append(True),
        )

    def _send_all(self, batch: list[Write]) -> None:
        """All of them in order, each once. A failure is judged where it happened: what is passed over is never sent
        again, since behind what came after it, it would change the document that came back under its key.
        """
        resent: list[bool] = []
        at, most = 0, len(batch)
        while at < len(batch):
            part = batch[at : at + most]
            answer = self._send(part, resent)
            if answer.get("ok"):
                at += len(part)
                continue
            results = answer.get("results")
            done = results if isinstance(results, list) else []
            judged = done
            if answer.get("code") not in (_FAILED, _UPDATE_OF_NOTHING):
                _judge_refusal(part[max(len(done) - 1, 0)], answer.get("code"))
                judged = done[:-1]
            elif all(done):
                raise _not_applied(part[0])  # it names none that failed, so nothing is known of any
            for place, applied in enumerate(judged, at):
                if not applied:
                    _judge(batch, place, twice=bool(resent))
            # By its version the server went on behind the failure, or stopped at it: then it may stop often.
            at, most = at + max(len(done), 1), AFTER_FAILURE


def _judge(batch: Sequence[Write], place: int, *, twice: bool) -> None:
    """Returns when what could not be applied is passed over. In a batch that was sent twice an update may find
    nothing, since what the batch deletes later was deleted the first time. Raises RefusedError (ReplayRefused).
    """
    write = batch[place]
    deleted = twice and _deletes(batch[place + 1 :], write)
    if write.operation["op"] != "u" or not (write.lenient or deleted):
        raise _not_applied(write)


def _judge_refusal(write: Write, code: object) -> None:
    """Returns when what the server refuses is passed over: a document of the dump's time, in whose place is a later one
    that the dump read, and whose key the collation takes for the same. What follows deletes that and inserts it anew.
    Raises ServerRefusedError (ContentRefused).
    """
    if not write.lenient or code not in _ANOTHER_KEY:
        raise _not_taken(write, code)


def _deletes(later: Iterable[Write], update: Write) -> bool:
    """Whether the document that is updated goes."""
    key = _key(update.operation["o2"])
    return any(
        write.operation["op"] == "d" and write.place == update.place and _key(write.operation["o"]) == key
        for write in later
    )


def _key(document: object) -> bytes:
    assert isinstance(document, Mapping)
    return bson.encode({"_id": document.get("_id")}, codec_options=RAW_OPTIONS)


def _raw(value: Mapping[str, object]) -> bytes:
    raw = getattr(value, "raw", None)
    return raw if isinstance(raw, bytes) else bson.encode(value)


def _not_applied(write: Write) -> LucidError:
    return refused(
        f"an operation of the oplog on {write.name[0]}.{write.name[1]} finds nothing to change, so the backup lacks"
        " what came before it"
    )


def _not_taken(write: Write, code: object) -> LucidError:
    name = f"{write.name[0]}.{write.name[1]}"
    if code == _TOO_LARGE:
        message = (
            f"A document of {name} has more than the 16 MiB that a server takes when what it lost and what it got while"
            " the full backup ran come together; restore a full backup that was made while no such document changed."
        )
    else:
        message = (
            f"The server refuses an operation of the oplog on {name} (error code {code}); restore into a server of the"
            " version that was backed up, or another backup."
        )
    return ServerRefusedError(message, reason=Reason.CONTENT_REFUSED)
