"""``python -m fedf2dg``: the command without its installation."""

import sys

from fedf2dg.cli import main

sys.exit(main())
