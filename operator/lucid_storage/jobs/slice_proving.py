"""What checks find out about slices (rule 1.11): a damaged one gets a failed proof and is a hole from then on.

The check of an incremental reads the slices that it stands on. The check of a full reads those since the full before
it, for at most a quarter of its own time: what nobody restores and no incremental needs would rot unseen otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from time import monotonic

from lucid_storage.archive.manifest import BackupKind, Manifest, Proof, ProofLevel, StoredObject
from lucid_storage.archive.recorded import Recorded, good_fulls, of_kind
from lucid_storage.archive.records import manifest_path, proof_path, write_proof
from lucid_storage.archive.streams import key_for
from lucid_storage.errors import ArchiveDamagedError, LucidError, Reason
from lucid_storage.jobs.destination import Place

logger = logging.getLogger(__name__)

TIME_SHARE = 4
"""The slices behind a full are read for at most this part of the time that its worker has."""

CheckObject = Callable[[Place, Manifest, StoredObject], None]


def is_damage(error: LucidError) -> bool:
    """Whether a check found something; anything else says that nothing was found out."""
    return isinstance(error, ArchiveDamagedError) or error.reason is Reason.VERIFY_FAILED


def verdict(piece: Recorded, message: str) -> Proof | None:
    """The proof for a slice that was read; `message` says what is wrong. None where there is nothing new to say."""
    if not message and (piece.proof is None or piece.proof.passed):
        return None
    return Proof(
        id=piece.id,
        level=ProofLevel.CHECKSUM,
        at=datetime.now(UTC),
        seconds=0,
        passed=not message,
        message=message,
    )


def keep(place: Place, found: Iterable[tuple[Manifest, Proof]]) -> None:
    """Writes proofs beside slices. Raises DestinationError."""
    for manifest, proof in found:
        home = place.home(manifest)
        if place.store.head(manifest_path(home, manifest)) is None:
            continue  # retention removed it while it was read
        if not proof.passed:
            logger.warning("the slice %s is damaged: %s", manifest.id, proof.message)
        key = key_for(manifest.packing, place.keyring)
        write_proof(place.store, home, proof, key, proof_path(home, manifest))


def behind(records: Sequence[Recorded], full: Manifest) -> list[Recorded]:
    """The slices between the good full before this one and its own end, the newest first."""
    mongodb = full.mongodb
    if mongodb is None:
        return []
    mine = [r for r in records if r.manifest.timeline == full.timeline and r.id != full.id]
    ends = [f.to.optime for f in good_fulls(mine) if f.to is not None and f.to.optime < mongodb.to.optime]
    if not ends:
        return []  # nothing leads into them
    found = []
    for piece in reversed(of_kind(mine, BackupKind.SLICE)):
        prev, to = piece.manifest.prev, piece.to
        if prev is None or to is None or not piece.readable:
            continue
        if to.optime > max(ends) and prev.optime < mongodb.to.optime:
            found.append(piece)
    return found


def check_behind(place: Place, full: Manifest, seconds: float, look: CheckObject) -> None:
    """Reads the slices behind a full that was proved already. Raises no LucidError: nothing here is about the full."""
    until = monotonic() + seconds
    try:
        pieces = behind(place.records(), full)
        for done, piece in enumerate(pieces):
            if monotonic() >= until:
                logger.warning("time is over: of %s slices the newest %s were read", len(pieces), done)
                return
            keep(place, _read(place, piece, look))
    except LucidError as error:
        logger.warning("the slices behind the backup %s are not checked: %s", full.id, error.message)


def _read(place: Place, piece: Recorded, look: CheckObject) -> Iterator[tuple[Manifest, Proof]]:
    message = ""
    try:
        for stored in piece.manifest.objects:
            look(place, piece.manifest, stored)
    except LucidError as error:
        if not is_damage(error):
            raise
        message = error.message
    proof = verdict(piece, message)
    if proof is not None:
        yield piece.manifest, proof
