"""Small container images written without a builder, in the form of `docker save`."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def write(
    target: Path,
    tag: str,
    *,
    files: Mapping[str, Path],
    links: Mapping[str, str] | None = None,
    entrypoint: Sequence[str] = (),
) -> Path:
    """An image of one layer: `files` maps places in the image to executables, `links` places to targets."""
    layer = _layer(files, links or {})
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": _architecture(),
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "Env": ["PATH=/bin:/usr/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest()
    manifest = json.dumps([{"Config": f"{name}.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode()
    draft = target.with_suffix(".new")
    with tarfile.open(draft, "w") as image:
        for member, content in (("manifest.json", manifest), (f"{name}.json", config), ("layer.tar", layer)):
            _add(image, member, content, 0o644)
    return draft.replace(target)


def _layer(files: Mapping[str, Path], links: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        folders = {str(parent) for place in (*files, *links) for parent in Path(place).parents} - {"/", "."}
        for folder, mode in [(folder, 0o755) for folder in sorted(folders)] + [("/tmp", 0o1777)]:
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            layer.addfile(entry)
        for place, source in files.items():
            _add(layer, place.lstrip("/"), source.read_bytes(), 0o755)
        for place, target in links.items():
            entry = tarfile.TarInfo(place.lstrip("/"))
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            layer.addfile(entry)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
