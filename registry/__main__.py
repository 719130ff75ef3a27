"""Entry point of the program ``tars-registry``, and of ``python -m registry``."""

from __future__ import annotations

import sys

from registry.cli import main

if __name__ == "__main__":
    sys.exit(main())
