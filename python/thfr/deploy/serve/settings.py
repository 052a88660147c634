"""Limits of the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from thfr.predictions.judging import Where

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Settings:
    """What one request may ask for, and how much may wait."""

    max_bytes: int = 32 * MEBIBYTE
    """Of a request's body."""
    max_pixels: int = 32_000_000
    """Of one image, as its header says; a larger one is refused before it is decoded."""
    max_images: int = 32
    """In one batch request."""
    queue_images: int = 64
    """Images that may wait for one model; more are refused with 503."""
    queue_pixels: int = 128_000_000
    """Pixels of the images that may wait for one model."""
    batch_images: int = 8
    """Images that are scored together at most."""
    batch_wait: float = 0.005
    """Seconds that an image waits for others to be scored with."""
    timeout: float = 30.0
    """Seconds for a request to arrive, and again for its answer."""
    min_area: int = 1
    """Findings of fewer pixels are left out, unless a request says otherwise."""
    pixels_per_mm: float | None = None
    """Scale of the images, for findings in millimetres."""
    where: Mapping[str, Where] = field(default_factory=dict)
    """Model -> the part of its images that counts, unless a request says otherwise; absent: all of it."""
    token: str | None = None
    """What ``Authorization: Bearer`` must hold; None: nothing is asked."""
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    """``Host`` headers that are answered; ``*``: any. Without a token this keeps web pages of others out that
    have their name resolved to this machine (DNS rebinding)."""
