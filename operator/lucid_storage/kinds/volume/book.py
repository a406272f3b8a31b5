"""The newest figures of every claim, as the rounds to the kubelets and the reader pods bring them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from lucid_storage.kinds.volume.observed import KUBELET, Figures
from lucid_storage.kinds.volume.usage import AHEAD
from lucid_storage.models.volume_check import ContentCheck, FailedCheck

ClaimName = tuple[str, str]
"""Namespace and name."""


class UsageBook:
    """In memory only: after a restart the first round fills it again."""

    def __init__(self) -> None:
        self._figures: dict[ClaimName, Figures] = {}
        self._foreign: set[ClaimName] = set()
        self._unwatched: dict[ClaimName, datetime] = {}
        self._checks: dict[ClaimName, ContentCheck] = {}
        self._failed: dict[ClaimName, FailedCheck] = {}

    def put_check(self, claim: ClaimName, check: ContentCheck) -> None:
        """A check of the content ended."""
        self._checks[claim] = check
        self._failed.pop(claim, None)

    def put_failed(self, claim: ClaimName, failed: FailedCheck) -> None:
        """A check of the content came to nothing."""
        self._failed[claim] = failed

    def failed(self, claim: ClaimName) -> FailedCheck | None:
        """The last one of this process, unless a check ended since."""
        return self._failed.get(claim)

    def check(self, claim: ClaimName) -> ContentCheck | None:
        """The last one of this process."""
        return self._checks.get(claim)

    def put(self, claim: ClaimName, figures: Figures) -> bool:
        """Whether they count: newer ones, and of the volume itself. Much older ones are those of a clock that was put
        right, or of another node.
        """
        known = self._figures.get(claim)
        if claim in self._foreign and figures.source == KUBELET:
            return False
        if known is not None and timedelta(0) <= known.at - figures.at <= AHEAD:
            return False
        self._figures[claim] = figures
        return True

    def disregard_kubelet(self, claim: ClaimName) -> None:
        """The kubelet tells the node's disk, on which the claim is but a folder."""
        self._foreign.add(claim)
        known = self._figures.get(claim)
        if known is not None and known.source == KUBELET:
            del self._figures[claim]

    def is_disregarded(self, claim: ClaimName) -> bool:
        """Whether the kubelet's figures of it are not taken."""
        return claim in self._foreign

    def waits(self, claim: ClaimName, now: datetime, *, missing: bool) -> datetime | None:
        """Since when figures that should be there are missing; None when they are not."""
        if not missing:
            self._unwatched.pop(claim, None)
            return None
        return self._unwatched.setdefault(claim, now)

    def get(self, claim: ClaimName) -> Figures | None:
        return self._figures.get(claim)

    def forget(self, claim: ClaimName) -> None:
        self._figures.pop(claim, None)
        self._checks.pop(claim, None)
        self._failed.pop(claim, None)
        self._foreign.discard(claim)
        self._unwatched.pop(claim, None)

    def keep_only(self, claims: Iterable[ClaimName]) -> None:
        """Forget the claims that no Volume declares any more."""
        wanted = set(claims)
        for claim in [
            c for c in (*self._figures, *self._foreign, *self._checks, *self._failed) if c not in wanted
        ]:
            self.forget(claim)
