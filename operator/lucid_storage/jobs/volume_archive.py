"""One volume into one archive, hashed while it passes through; and an archive hashed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lucid_storage.archive.volume_digest import ContentHash, TreeDigest
from lucid_storage.archive.volume_tar import END, EntryType, header, padding
from lucid_storage.archive.volume_untar import TarReader
from lucid_storage.jobs.contract import Sink, Source
from lucid_storage.jobs.volume_tree import Tree, contents


@dataclass(frozen=True, slots=True)
class Archived:
    """What was read."""

    digest: TreeDigest
    tree: Tree


def write_archive(
    root: Path, sink: Sink, check: Callable[[], None], report: Callable[[int, int], None]
) -> Archived:
    """The whole volume into a sink, which is not ended. `check` raises when the worker is to end."""
    tree, digest = Tree(root), TreeDigest()
    for opened in tree.entries():
        check()
        entry = opened.entry
        sink.write(header(entry))
        content = ContentHash()
        for offset, data in contents(opened):
            check()
            content.update(offset, data)
            sink.write(data)
            report(len(data), 0)
        sink.write(padding(entry))
        is_file = entry.type is EntryType.FILE
        digest.add(entry, content.hexdigest(entry.size) if is_file else "")
        report(0, int(is_file))
    sink.write(END)
    return Archived(digest, tree)


def hash_archive(source: Source) -> TreeDigest:
    """What an archive holds. Raises ArchiveDamagedError."""
    reader, digest = TarReader(source.read), TreeDigest()
    for entry in reader.entries():
        content = ContentHash()
        for offset, data in reader.contents():
            content.update(offset, data)
        digest.add(entry, content.hexdigest(entry.size) if entry.type is EntryType.FILE else "")
    return digest
