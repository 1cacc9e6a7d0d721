"""Lets `python -m penstock` do what the command `penstock` does."""

import sys

from penstock.cli import main

if __name__ == "__main__":
    sys.exit(main())
