"""`python -m demo up|down`."""

import sys

from demo.run import run
from testbed.bed import Bed
from testbed.errors import TestbedError
from testbed.paths import Instance
from testbed.progress import Progress


def main() -> int:
    """Exit status: 0 when everything was shown, 1 with a sentence when something is missing."""
    command = sys.argv[1] if len(sys.argv) > 1 else "up"
    progress = Progress()
    bed = Bed(Instance.named("demo"), progress)
    try:
        if command == "down":
            ran = bed.down()
            print(
                "The demo is stopped; its data is kept for the next time." if ran else "Nothing was running."
            )
        else:
            run(bed, progress)
    except TestbedError as error:
        print(f"\nThe demo cannot go on: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
