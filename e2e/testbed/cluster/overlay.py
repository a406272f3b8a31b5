"""Whether layers of images can be kept as overlay mounts."""

from pathlib import Path


def usable(folder: Path) -> bool:
    """False on an overlay, such as the root of a container: an overlay cannot lie on another one."""
    best, kind = "", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, found, *_ = line.split()
        if folder.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, found
    return kind != "overlay"
