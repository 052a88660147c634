"""Getting a fitted detector out of Python: export with a proof of parity, and loading what was exported."""
