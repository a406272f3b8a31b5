import sys
from pathlib import Path

# One builder of manifests for all tests of chains, and one of schedules.
sys.path += [
    str(Path(__file__).parents[2] / folder) for folder in ("archive/timeline", "kinds/backupschedule")
]
