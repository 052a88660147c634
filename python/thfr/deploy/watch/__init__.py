"""``thfr watch``: a folder that a camera writes into."""
