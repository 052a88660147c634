"""Whether two results of an operator are one result, up to rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

#: of results of a dtype, relative to the largest magnitude of the result
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 5e-6, torch.float64: 1e-9}


def _tensors(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def _values(found: Tensor, expected: Tensor) -> str:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        got, wanted = (f"{list(t.shape)} {t.dtype}" for t in (found, expected))
        return f"expected {wanted}, got {got}"
    a, b = found.detach().cpu(), expected.detach().cpu()
    if not b.dtype.is_floating_point:
        wrong = a != b
        return f"{int(wrong.sum())} of {wrong.numel()} integers differ" if bool(wrong.any()) else ""
    a, b = a.double(), b.double()
    odd = (a.isnan() != b.isnan()) | (a.isinf() != b.isinf()) | (b.isinf() & (a != b))
    if bool(odd.any()):
        return f"{int(odd.sum())} of {odd.numel()} numbers are NaN or infinite in one only"
    finite = b.isfinite()
    scale = max(1.0, float(b[finite].abs().max())) if bool(finite.any()) else 1.0
    error = float((a - b)[finite].abs().max()) if bool(finite.any()) else 0.0
    if error <= TOLERANCE[found.dtype] * scale:
        return ""
    return f"numbers differ by {error:.2g}, more than {TOLERANCE[found.dtype] * scale:.2g}"


def _neighbours(found: Sequence[Tensor], expected: Sequence[Tensor], exact: bool) -> str:
    """Equal scores, and the same rows wherever the scores around them are further apart than rounding."""
    wrong = _values(found[0], expected[0])
    if wrong or exact:
        return wrong or _values(found[1], expected[1])
    scores, rows, others = expected[0].cpu().double(), expected[1].cpu(), found[1].cpu()
    near = 1e-6 * (1 + scores.abs())
    close = torch.zeros_like(rows, dtype=torch.bool)
    gaps = scores.diff(dim=1).abs() <= near[:, 1:]
    close[:, 1:] |= gaps
    close[:, :-1] |= gaps
    close[:, -1] = True  # the next row may be as good
    bad = (rows != others) & ~close
    return f"{int(bad.sum())} of {bad.numel()} rows differ" if bool(bad.any()) else ""


def disagreement(name: str, found: Any, expected: Any, *, exact: bool = False) -> str:
    """How ``found`` differs from ``expected``, in words; empty if it does not.

    Where one is an error about values (NaN or infinity), NaN in the other is the same. ``exact``: arithmetic
    was exact, so that ties are ties.
    """
    if isinstance(expected, Exception) or isinstance(found, Exception):
        results = [r for r in (found, expected) if not isinstance(r, Exception)]
        if not results:
            return ""
        marked = any(
            bool((~t.isfinite()).any()) if t.dtype.is_floating_point else bool((t == -1).any())
            for t in _tensors(results[0])
        )
        return "" if marked else f"got {found!r} instead of {expected!r}"[:300]
    if name == "nearest_templates":
        return _neighbours(_tensors(found), _tensors(expected), exact)
    pairs = zip(_tensors(found), _tensors(expected), strict=True)
    return next(filter(None, (_values(a, b) for a, b in pairs)), "")
