"""Products of matrices by cuBLAS, whatever the caller has set for the rest of the program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def product_of(operator: str, device: torch.device) -> Iterator[None]:
    """Autocast is off within, and torch's refusal of a product says what to set.

    Raises:
        RuntimeError: ``torch.use_deterministic_algorithms(True)`` without what cuBLAS needs for it.
    """
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    except RuntimeError as error:
        if "CUBLAS_WORKSPACE_CONFIG" not in str(error):
            raise
        raise RuntimeError(
            f"{operator}: torch.use_deterministic_algorithms(True) is on, for which cuBLAS needs "
            "CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment before the program starts "
            "(results are the same with and without)"
        ) from error
