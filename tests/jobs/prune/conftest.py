import sys
from pathlib import Path

# One builder of manifests for all tests of chains.
sys.path.append(str(Path(__file__).parents[2] / "archive" / "timeline"))
