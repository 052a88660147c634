"""The command line: ``thfr synth | train | predict | evaluate | ablate | tables | doctor | bench | demo``."""

from __future__ import annotations

from thfr.cli.app import main

__all__ = ["main"]
