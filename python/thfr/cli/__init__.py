"""The command line: ``thfr synth | train | predict | evaluate | doctor | bench | demo``."""

from __future__ import annotations

from thfr.cli.app import main

__all__ = ["main"]
