"""How deep pixels can be: data only, so that the command line knows it without NumPy."""

from __future__ import annotations

BIT_DEPTHS = (8, 10, 12, 14, 16)
