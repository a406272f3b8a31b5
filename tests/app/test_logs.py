"""What the operator writes on its standard output."""

import json
import os
import subprocess
import sys

from testbed.paths import project_root

WARNS = """
import warnings
from lucid_storage.app.logs import configure
configure("INFO")
warnings.warn("of a library")
"""


def test_a_warning_of_python_is_a_line_as_every_other() -> None:
    environment = {**os.environ, "PYTHONPATH": str(project_root() / "operator")}
    done = subprocess.run(
        [sys.executable, "-c", WARNS], env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    line = json.loads(done.stdout)
    assert (line["level"], line["logger"], done.stderr) == ("warning", "py.warnings", "")
    assert "of a library" in line["message"]
