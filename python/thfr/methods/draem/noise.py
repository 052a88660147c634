"""Perlin's gradient noise (Perlin, "An image synthesizer", SIGGRAPH 1985) and the draws it is made from."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def uniform(rng: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """A number from ``low`` up to ``high``."""
    return low + (high - low) * float(torch.rand((), generator=rng))


def random_gradients(rows: int, columns: int, rng: torch.Generator) -> Tensor:
    """Unit vectors at the corners of a lattice of ``rows`` x ``columns`` cells, [rows+1,columns+1,2]."""
    angles = 2 * math.pi * torch.rand(rows + 1, columns + 1, generator=rng)
    return torch.stack([angles.cos(), angles.sin()], dim=2)


def perlin_noise(
    gradients: Tensor,  # [R+1,C+1,2], (down, right)
    size: tuple[int, int],
) -> Tensor:  # [H,W]
    """Gradient noise of ``size`` = (height, width) over a lattice of R x C cells, in [-1, 1].

    Each pixel's centre takes, of the four corners of its cell, the scalar product of the corner's gradient
    with the way from the corner, blended with 6t^5 - 15t^4 + 10t^3; scaled by sqrt(2), its largest value in
    two dimensions being sqrt(1/2).
    """
    (top, down), (left, right) = (
        _positions(pixels, corners - 1, gradients)
        for pixels, corners in zip(size, gradients.shape[:2], strict=True)
    )

    def corner(below: int, beside: int) -> Tensor:
        at = gradients[top + below][:, left + beside]
        return at[..., 0] * (down - below)[:, None] + at[..., 1] * (right - beside)[None]

    v, u = _fade(down)[:, None], _fade(right)[None]
    upper = torch.lerp(corner(0, 0), corner(0, 1), u)
    lower = torch.lerp(corner(1, 0), corner(1, 1), u)
    return math.sqrt(2) * torch.lerp(upper, lower, v)


def _positions(pixels: int, cells: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The cell each pixel's centre is in, and how far into it."""
    positions = (torch.arange(pixels, dtype=like.dtype) + 0.5) * (cells / pixels)
    cell = positions.floor()
    return cell.long(), positions - cell


def _fade(t: Tensor) -> Tensor:
    return t * t * t * (t * (6 * t - 15) + 10)
