"""Run the command as ``python -m cosyclient``."""

import sys

from cosyclient.cli import main

sys.exit(main())
