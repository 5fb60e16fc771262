"""``python -m fedf2dg``: the command without its installation."""

import sys

# The folder in which the command is called is no place to import from, but for a user's members.
if not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))

from fedf2dg.cli import main

sys.exit(main())
