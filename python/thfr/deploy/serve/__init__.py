"""``thfr serve``: trained runs behind HTTP."""
