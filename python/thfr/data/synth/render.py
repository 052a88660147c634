"""A small 2.5-dimensional renderer: signed distances become heights and colours, one lamp lights them.

Lengths are pixels. A signed distance is negative inside a shape; all arrays are [H, W] unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter, shift

SIZE = 320
"""Height and width of a rendered image in pixels."""


@dataclass(frozen=True)
class Frame:
    """Pixel coordinates seen from a place: ``u`` to the right and ``v`` down, before its rotation."""

    u: np.ndarray
    v: np.ndarray

    def at(self, x: float, y: float, angle: float = 0.0) -> Frame:
        """The frame whose origin is (x, y) of this one, turned by ``angle`` radians."""
        cos, sin = np.cos(angle), np.sin(angle)
        du, dv = self.u - x, self.v - y
        return Frame(cos * du + sin * dv, cos * dv - sin * du)

    def window(self, part: tuple[slice, slice]) -> Frame:
        return Frame(self.u[part], self.v[part])

    @property
    def radius(self) -> np.ndarray:
        return np.hypot(self.u, self.v)


def image_frame() -> Frame:
    v, u = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    return Frame(u, v)


def box(frame: Frame, half_width: float, half_height: float, corner: float = 0.0) -> np.ndarray:
    """Signed distance to a rectangle with rounded corners."""
    qx = np.abs(frame.u) - half_width + corner
    qy = np.abs(frame.v) - half_height + corner
    return np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - corner


def hexagon(frame: Frame, apothem: float) -> np.ndarray:
    """Signed distance to a regular hexagon (exact along its sides)."""
    sides = [np.abs(np.cos(a) * frame.u + np.sin(a) * frame.v) for a in (0.0, np.pi / 3, 2 * np.pi / 3)]
    return np.maximum.reduce(sides) - apothem


def coverage(distance: np.ndarray) -> np.ndarray:
    """How much of each pixel a shape covers, 0 to 1."""
    return np.clip(0.5 - distance, 0, 1)


def noise(rng: np.random.Generator, sigma: float | tuple[float, float]) -> np.ndarray:
    """Smooth random texture of zero mean and unit spread."""
    values = gaussian_filter(rng.standard_normal((SIZE, SIZE)), sigma, mode="wrap")
    return values / values.std()


@dataclass
class Canvas:
    """Height above the bench, colour without light (0 to 1) and gloss of every pixel."""

    height: np.ndarray = field(default_factory=lambda: np.zeros((SIZE, SIZE)))
    colour: np.ndarray = field(default_factory=lambda: np.zeros((SIZE, SIZE, 3)))
    gloss: np.ndarray = field(default_factory=lambda: np.zeros((SIZE, SIZE)))

    def window(self, part: tuple[slice, slice]) -> Canvas:
        """A part of the canvas; what is put there shows here."""
        return Canvas(self.height[part], self.colour[part], self.gloss[part])

    def put(self, distance: np.ndarray, height: np.ndarray, colour: np.ndarray, gloss: float) -> None:
        """Lay a shape over what is there; ``height`` is its surface, ``colour`` [3] or [H, W, 3]."""
        alpha = coverage(distance)
        self.height += alpha * (height - self.height)
        self.gloss += alpha * (gloss - self.gloss)
        self.tint(alpha, colour)

    def tint(self, alpha: np.ndarray, colour: np.ndarray) -> None:
        """Mix a colour in, leaving the surface as it is."""
        self.colour += alpha[..., None] * (colour - self.colour)


@dataclass(frozen=True)
class Light:
    """One lamp and one camera."""

    azimuth: float
    """Direction the light comes from, radians, from the right towards the bottom."""
    elevation: float
    exposure: float
    warmth: float
    """Gain of red over blue, as a fraction."""
    falloff: float
    """Loss of light from the lit edge to the far one, as a fraction."""
    grain: float
    """Standard deviation of the sensor noise in grey levels."""


def sample_light(rng: np.random.Generator) -> Light:
    return Light(
        azimuth=np.deg2rad(rng.normal(-128, 5)),
        elevation=np.deg2rad(rng.uniform(50, 55)),
        exposure=rng.uniform(0.94, 1.06),
        warmth=rng.normal(0, 0.012),
        falloff=rng.uniform(0.05, 0.16),
        grain=rng.uniform(1.6, 2.8),
    )


def shade(canvas: Canvas, light: Light, rng: np.random.Generator) -> np.ndarray:
    """Light the canvas and photograph it: uint8 RGB [H, W, 3]."""
    height = gaussian_filter(canvas.height, 0.6)
    slope_v, slope_u = np.gradient(height)
    length = np.sqrt(1 + slope_u**2 + slope_v**2)
    towards = np.array([np.cos(light.azimuth), np.sin(light.azimuth)])
    flat = np.cos(light.elevation)
    up = np.sin(light.elevation)
    lambert = (up - flat * (slope_u * towards[0] + slope_v * towards[1])) / length
    half = np.array([*(flat * towards), up + 1.0])
    half /= np.linalg.norm(half)
    mirror = (half[2] - slope_u * half[0] - slope_v * half[1]) / length
    lit = 1 - 0.75 * _shadow(height, towards, up / flat)
    diffuse = 0.38 + 0.62 * np.maximum(lambert, 0) / up * lit
    shine = canvas.gloss * np.maximum(mirror, 0) ** 40 * lit
    frame = image_frame().at(SIZE / 2, SIZE / 2)
    across = (frame.u * towards[0] + frame.v * towards[1]) / SIZE
    gain = light.exposure * (1 + light.falloff * across)
    picture = (canvas.colour * diffuse[..., None] + shine[..., None]) * gain[..., None]
    picture *= np.array([1 + light.warmth, 1.0, 1 - light.warmth])
    picture = gaussian_filter(picture, (0.55, 0.55, 0)) * 255
    picture += light.grain * rng.standard_normal(picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _shadow(height: np.ndarray, towards: np.ndarray, rise: float, reach: int = 18) -> np.ndarray:
    """Where something nearer to the lamp stands in the light: 0 to 1, softened at the edge."""
    shadow = np.zeros_like(height)
    for step in range(1, reach, 2):
        moved = shift(height, (-step * towards[1], -step * towards[0]), order=1, mode="nearest")
        shadow = np.maximum(shadow, np.clip((moved - step * rise - height) / 2.0, 0, 1))
    return gaussian_filter(shadow, 1.2)
