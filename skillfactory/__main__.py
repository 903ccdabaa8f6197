"""`python -m skillfactory` is the command line."""

import sys

from skillfactory.cli import main

if __name__ == "__main__":
    sys.exit(main())
