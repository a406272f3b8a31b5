"""A destination as a prompt names it: which one, and with which keys."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lucid_storage.archive.destination import ObjectStore, open_store
from lucid_storage.archive.keys import Keyring
from lucid_storage.errors import DestinationError
from lucid_storage.models.orders import DESTINATION_FOLDER_VARIABLE, KEYS_FOLDER_VARIABLE, Destination


@dataclass(frozen=True, slots=True)
class Archive:
    """Destination and keys, opened when they are asked for."""

    destination: Destination
    environ: Mapping[str, str]
    """For everything that opens it: folder and keys are in it too."""

    @classmethod
    def of(cls, given: argparse.Namespace, environ: Mapping[str, str]) -> Archive:
        """Raises DestinationError for a folder of keys that is not there."""
        own = dict(environ)
        if given.folder is not None:
            own[DESTINATION_FOLDER_VARIABLE] = given.folder
        if given.keys is not None:
            if not Path(given.keys).is_dir():
                raise DestinationError(
                    f"The folder of keys {given.keys} is not there; make it, with one file a key id."
                )
            own[KEYS_FOLDER_VARIABLE] = given.keys
        destination = Destination(
            bucket=given.bucket, endpoint=given.endpoint, region=given.region, root=given.prefix.strip("/")
        )
        return cls(destination, own)

    @property
    def keyring(self) -> Keyring:
        return Keyring.from_environ(self.environ)

    def open(self) -> ObjectStore:
        """Raises DestinationError."""
        return open_store(self.destination, self.environ)
