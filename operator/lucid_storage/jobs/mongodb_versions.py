"""Whether one MongoDB takes all that another one holds, by their versions.

A server that was upgraded takes new features only when its featureCompatibilityVersion was raised as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from lucid_storage.errors import LucidError
from lucid_storage.stores.mongodb.restore.target import Target


def older(version: str, than: str) -> bool:
    """By release series, such as 6.0."""
    one, other = (tuple(int(part) for part in v.split(".")[:2] if part.isdigit()) for v in (version, than))
    return one < other


@dataclass(frozen=True, slots=True)
class Versions:
    """Of a server."""

    program: str
    """Such as 6.0.5."""
    features: str | None
    """The featureCompatibilityVersion, such as 6.0; None where the login may not read it."""

    def older(self, than: str) -> bool:
        """Whether it surely may lack what a program of that version has."""
        return older(self.program, than) or (self.features is not None and older(self.features, than))

    def differ(self, version: str) -> bool:
        """Whether it may refuse what a program of that version takes: a newer one does so of some definitions."""
        return self.features is None or self.older(version) or older(version, self.program)

    def __str__(self) -> str:
        if self.features is None:
            return (
                f"{self.program}, whose featureCompatibilityVersion its login may not read (clusterMonitor)"
            )
        if older(self.features, self.program):
            return f"{self.program} with featureCompatibilityVersion {self.features}"
        return self.program


def hint(target: Target, read: str) -> str:
    """A sentence for what a server refused of a backup of a server of the version `read`, with a blank before it; empty
    where the featureCompatibilityVersion has no part in it, or cannot be asked for.
    """
    try:
        features = target.compatibility()
    except LucidError:
        return ""
    if features is None or not older(features, read):
        return ""
    return (
        f" The server's featureCompatibilityVersion is {features}, and a MongoDB {read} was backed up: raise it"
        " (setFeatureCompatibilityVersion) if the server is of that version."
    )
