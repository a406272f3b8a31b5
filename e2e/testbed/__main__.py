"""`python -m testbed`, with e2e/ on PYTHONPATH."""

import sys

from testbed.cli import main

sys.exit(main())
