"""Run the command as ``python -m cosyclient.cli``."""

import sys

from cosyclient.cli import main

sys.exit(main())
