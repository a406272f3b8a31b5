"""Manifests as text: the same bytes for the same resources, read alike by YAML 1.1 and 1.2."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml

from lucid_storage.kinds.export.parts import Manifest, Skipped

MARK = "# Written by lucid-storage export. Exporting again replaces the files that are listed here.\n"
"""First line of the kustomization: how an earlier export is known."""

# Readers differ in what else they take for a number, a date or a boolean.
_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$./-]*", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})


class _Dumper(yaml.SafeDumper):
    """Block style, no aliases, and no string that a reader could take for something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def manifests_text(resources: Sequence[Manifest]) -> str:
    return _dumped(resources)


def kustomization_text(files: Sequence[str]) -> str:
    body: Manifest = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(files),
    }
    return MARK + _dumped([body])


def listed_files(kustomization: str) -> tuple[str, ...] | None:
    """The files of an earlier export; None where the text is not one's kustomization."""
    if not kustomization.startswith(MARK):
        return None
    body = yaml.safe_load(kustomization)
    resources = body.get("resources") if isinstance(body, dict) else None
    names = [str(name) for name in resources] if isinstance(resources, list) else []
    return tuple(name for name in names if "/" not in name)


def skipped_text(skipped: Sequence[Skipped]) -> str:
    """SKIPPED.md, and what people read on standard error."""
    lines = [f"- {_one_line(entry.what)}: {_one_line(entry.why)}" for entry in skipped]
    return "# Not described by these resources\n\n" + "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    """Names may hold line breaks and other signs that would act on a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _dumped(resources: Sequence[Manifest]) -> str:
    return yaml.dump_all(
        resources, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=10_000
    )
