"""``python -m bothways``."""

import sys

from bothways.cli import main

if __name__ == "__main__":
    sys.exit(main())
