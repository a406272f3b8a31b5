"""`python -m testbed.reaper <folder>`: waits for the end of a test run and removes its servers."""

import sys
from pathlib import Path

from testbed.testrun import reap

if __name__ == "__main__":
    reap(Path(sys.argv[1]))
