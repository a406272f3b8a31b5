"""What the copy of a migration could not keep: as it is written down, and as people are told. Pure."""

from __future__ import annotations

from lucid_storage.errors import Reason
from lucid_storage.models.volume_migration import Migration
from lucid_storage.models.volume_work import VolumeCopyResult

Row = tuple[str, bool, Reason, str]


def noted(result: VolumeCopyResult) -> dict[str, object]:
    """Of a worker's result, as fields of the journal."""
    return {
        "owners_kept": not result.owners_not_kept,
        "owners_not_kept": result.owners_not_kept,
        "attributes_not_kept": result.attributes_not_kept,
        "top_mode_kept": result.top_mode_kept,
        "skipped": result.skipped,
    }


def rows(journal: Migration | None) -> list[Row]:
    """The conditions of a Volume that was migrated."""
    if journal is None or journal.owners_kept is None:
        return []
    owners, attributes = _owners(journal), _attributes(journal)
    return [
        (
            "OwnersNotKept",
            bool(owners),
            Reason.OWNERS_NOT_KEPT if owners else Reason.OWNERS_KEPT,
            owners,
        ),
        (
            "AttributesNotKept",
            bool(attributes),
            Reason.ATTRIBUTES_NOT_KEPT if attributes else Reason.ATTRIBUTES_KEPT,
            attributes,
        ),
    ]


def sentences(journal: Migration) -> str:
    """All of it, for the Event; empty when everything was kept."""
    left_out = f"{journal.skipped} sockets or device nodes were left out." if journal.skipped else ""
    return " ".join(said for said in (_owners(journal), _attributes(journal), left_out) if said)


def _owners(journal: Migration) -> str:
    said = []
    if journal.owners_kept is False:
        several = f"{journal.owners_not_kept} entries" if journal.owners_not_kept else "some entries"
        said.append(
            f"The migration could not keep the owners of {several}; set them by the old volume (chown) before you"
            " release it. With spec.copy.runAsUser: 0 a migration keeps them."
        )
    if journal.top_mode_kept is False:
        said.append(
            "The top folder of the new volume has not the mode that it had: pods without an fsGroup may be unable to"
            " write; set securityContext.fsGroup in them, or correct the mode as root (chmod)."
        )
    return " ".join(said)


def _attributes(journal: Migration) -> str:
    if not journal.attributes_not_kept:
        return ""
    return (
        f"The migration could not keep the capabilities or access lists of {journal.attributes_not_kept} entries; set"
        " them by the old volume (setcap, setfacl) before you release it. With spec.copy.runAsUser: 0 a migration keeps"
        " them."
    )
