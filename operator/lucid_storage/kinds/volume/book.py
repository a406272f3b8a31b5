"""The newest figures of every claim, as the rounds to the kubelets and the reader pods bring them."""

from __future__ import annotations

from collections.abc import Iterable

from lucid_storage.kinds.volume.observed import Figures

ClaimName = tuple[str, str]
"""Namespace and name."""


class UsageBook:
    """In memory only: after a restart the first round fills it again."""

    def __init__(self) -> None:
        self._figures: dict[ClaimName, Figures] = {}

    def put(self, claim: ClaimName, figures: Figures) -> None:
        known = self._figures.get(claim)
        if known is None or known.at < figures.at:
            self._figures[claim] = figures

    def get(self, claim: ClaimName) -> Figures | None:
        return self._figures.get(claim)

    def forget(self, claim: ClaimName) -> None:
        self._figures.pop(claim, None)

    def keep_only(self, claims: Iterable[ClaimName]) -> None:
        """Forget the claims that no Volume declares any more."""
        wanted = set(claims)
        for claim in [c for c in self._figures if c not in wanted]:
            del self._figures[claim]
