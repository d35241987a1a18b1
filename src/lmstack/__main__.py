"""`python -m lmstack` is the `lmstack` command."""

import sys

from lmstack.app.cli import main

__all__ = ()

if __name__ == "__main__":
    sys.exit(main())
