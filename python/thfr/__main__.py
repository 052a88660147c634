"""``python -m thfr`` is ``thfr``."""

from __future__ import annotations

import sys

from thfr.cli import main

if __name__ == "__main__":
    sys.exit(main())
