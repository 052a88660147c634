"""Anomalies planted into good images, to choose settings by without ever looking at test images.

Real defects are for the final figures only (DESIGN: thresholds, early stopping and sizes are chosen on good
images). These stand in for them: four kinds that break an arrangement whose parts are all sound, and three of
damage. They are crude on purpose; what they are good for is to rank settings, not to predict a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from thfr.errors import InputError

LEAST_CHANGE = 12.0
"""Mean change, in grey levels of 256 over the three channels, below which a planted anomaly is drawn anew."""
_TRIES = 50
_LEAST = 32  # pixels of an edge
_FEATHER = 1.5  # pixels over which a pasted rectangle blends in: an edge that no camera makes is too easy

_Image = np.ndarray  # uint8 [H,W,3]
_Change = tuple[np.ndarray, np.ndarray]  # float32 [H,W,3] and the share of it that shows, float32 [H,W]
_Planter = Callable[[_Image, _Image, np.random.Generator], _Change]


def plant(
    image: np.ndarray,  # uint8 [H,W,3], good
    other: np.ndarray,  # uint8 [H,W,3], another good image of the same size
    kind: str,
    seed: int,
    inside: np.ndarray | None = None,  # bool [H,W]: where it may be; None: anywhere
) -> tuple[np.ndarray, np.ndarray]:  # uint8 [H,W,3], bool [H,W]
    """A copy of ``image`` with one anomaly of a kind of :data:`PLANTED`, and where it is.

    The same arguments give the same anomaly. One whose pixels change by less than :data:`LEAST_CHANGE` on
    average (a part exchanged for an equal one) is drawn anew, fifty times at most; the largest change found
    is taken then.

    Raises:
        InputError: ``kind`` is unknown, the images are not uint8 [H,W,3] of one size, 32 pixels at least, or
            ``inside`` is too small for any anomaly.
    """
    if kind not in PLANTED:
        raise InputError(f"plant: kind: expected one of {', '.join(PLANTED)}, got {kind!r}")
    for name, given in (("image", image), ("other", other)):
        if given.dtype != np.uint8 or given.shape != (*image.shape[:2], 3) or min(given.shape[:2]) < _LEAST:
            raise InputError(
                f"plant: {name}: expected uint8 [H,W,3] of one size, at least 32, got {given.dtype} "
                f"{list(given.shape)} for image {list(image.shape)}"
            )
    rng = np.random.default_rng([seed, *kind.encode()])
    whole = np.ones(image.shape[:2], dtype=bool) if inside is None else inside
    around = _around(whole)
    good, replacement, allowed = image[around], other[around], whole[around]
    result, mask = image.copy(), np.zeros(image.shape[:2], dtype=bool)
    change = 0.0
    for _ in range(_TRIES):
        painted, share = PLANTED[kind](good, replacement, rng)
        share = share * allowed
        mixed = good + share[..., None] * (painted - good)
        found = float(np.abs(mixed - good)[share > 0.5].mean()) if (share > 0.5).any() else 0.0
        if found > change or (not mask.any() and (share > 0.5).any()):
            result[around], mask[around] = mixed.round().clip(0, 255).astype(np.uint8), share > 0.5
            change = found
        if change >= LEAST_CHANGE:
            break
    if not mask.any():
        raise InputError(f"plant: inside: no room for an anomaly ({kind}) in {int(whole.sum())} pixels")
    return result, mask


def _around(inside: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that hold ``inside``, at least 32 of each."""
    spans = []
    for axis, edge in enumerate(inside.shape):
        held = np.flatnonzero(inside.any(1 - axis))
        low, high = (int(held[0]), int(held[-1]) + 1) if len(held) else (0, edge)
        low = max(0, min(low, high - _LEAST, edge - _LEAST))
        spans.append(slice(low, max(high, low + _LEAST)))
    return spans[0], spans[1]


def plant_all(
    images: Sequence[np.ndarray],  # uint8 [H,W,3], good, of one size
    seed: int = 0,
    inside: Sequence[np.ndarray | None] | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    """For each image one anomaly of every kind: images, masks (bool [H,W]) and kinds, kind after kind.
    ``inside``: for each image where it may be, see :func:`plant`.

    Raises:
        InputError: fewer than two images, or see :func:`plant`.
    """
    if len(images) < 2:
        raise InputError(f"plant_all: images: expected at least two good images, got {len(images)}")
    planted, masks, kinds = [], [], []
    rng = np.random.default_rng(seed)
    for kind in PLANTED:
        for index, image in enumerate(images):
            other = images[(index + 1 + int(rng.integers(len(images) - 1))) % len(images)]
            place = None if inside is None else inside[index]
            result, mask = plant(image, other, kind, seed * 1_000_003 + index, place)
            planted.append(result)
            masks.append(mask)
            kinds.append(kind)
    return planted, masks, kinds


def _rectangle(
    image: _Image, rng: np.random.Generator, least: float = 0.1, most: float = 0.4
) -> tuple[slice, slice]:
    """Rows and columns whose extents are shares of the image's, anywhere in it."""
    spans = []
    for edge in image.shape[:2]:
        extent = max(4, int(edge * rng.uniform(least, most)))
        start = int(rng.integers(edge - extent + 1))
        spans.append(slice(start, start + extent))
    return spans[0], spans[1]


def _feathered(image: _Image, place: tuple[slice, slice]) -> np.ndarray:
    share = np.zeros(image.shape[:2], dtype=np.float32)
    share[place] = 1
    return ndimage.gaussian_filter(share, _FEATHER)


def _exchanged(image: _Image, other: _Image, rng: np.random.Generator) -> _Change:
    """A part of another product in its place: the wrong label."""
    return other.astype(np.float32), _feathered(image, _rectangle(image, rng))


def _added(image: _Image, other: _Image, rng: np.random.Generator) -> _Change:
    """A part once more, or in the wrong place."""
    place = _rectangle(image, rng)
    rows, columns = (span.stop - span.start for span in place)
    top = int(rng.integers(image.shape[0] - rows + 1))
    left = int(rng.integers(image.shape[1] - columns + 1))
    painted = image.astype(np.float32)
    painted[place] = image[top : top + rows, left : left + columns]
    return painted, _feathered(image, place)


def _removed(image: _Image, other: _Image, rng: np.random.Generator) -> _Change:
    """A part missing: what is around it goes on over it."""
    rows, columns = place = _rectangle(image, rng)
    height, width = image.shape[:2]
    top, bottom = max(rows.start - 1, 0), min(rows.stop, height - 1)
    left, right = max(columns.start - 1, 0), min(columns.stop, width - 1)
    source = image.astype(np.float32)
    v = np.linspace(0, 1, rows.stop - rows.start, dtype=np.float32)[:, None, None]
    u = np.linspace(0, 1, columns.stop - columns.start, dtype=np.float32)[None, :, None]
    downward = (1 - v) * source[top, columns][None] + v * source[bottom, columns][None]
    across = (1 - u) * source[rows, left][:, None] + u * source[rows, right][:, None]
    painted = source.copy()
    painted[place] = (downward + across) / 2 + np.asarray(rng.normal(0, 2, downward.shape), np.float32)
    return painted, _feathered(image, place)


def _mirrored(image: _Image, other: _Image, rng: np.random.Generator) -> _Change:
    """A part the wrong way round."""
    place = _rectangle(image, rng, 0.15)
    painted = image.astype(np.float32)
    painted[place] = painted[place][:, ::-1] if rng.random() < 0.5 else painted[place][::-1]
    return painted, _feathered(image, place)


def _blob(image: _Image, rng: np.random.Generator, least: float, most: float) -> np.ndarray:
    """A share that is 1 in an irregular patch: the high part of smooth noise near a point."""
    height, width = image.shape[:2]
    radius = rng.uniform(least, most) * min(height, width)
    y, x = rng.uniform(0.1, 0.9) * height, rng.uniform(0.1, 0.9) * width
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - y, columns - x) / radius
    noise = ndimage.gaussian_filter(rng.normal(size=(height, width)), radius / 3, mode="wrap")
    inside = np.asarray(noise / noise.std() * 0.35 + 1 > distance, dtype=np.float32)
    return np.asarray(ndimage.gaussian_filter(inside, 1.0))


def _stained(image: _Image, other: _Image, rng: np.random.Generator) -> _Change:
    """Dirt: another colour over a patch, the texture below still visible."""
    share = _blob(image, rng, 0.03, 0.12)
    colour = rng.uniform(0, 255, 3).astype(np.float32)
    return 0.35 * image.astype(np.float32) + 0.65 * colour, share


def _scratched(image: _Image, other: _Image, rng: np.random.Generator) -> _Change:
    """A thin bent line, lighter or darker."""
    height, width = image.shape[:2]
    ends = rng.uniform(0.1, 0.9, (3, 2)) * (height, width)
    ends[1] = (ends[0] + ends[2]) / 2 + rng.normal(0, 0.06, 2) * (height, width)
    t = np.linspace(0, 1, 4 * max(height, width))[:, None]
    curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
    share = np.zeros((height, width), dtype=np.float32)
    rows, columns = curve.round().astype(int).clip(0, (height - 1, width - 1)).T
    share[rows, columns] = 1
    share = ndimage.gaussian_filter(ndimage.grey_dilation(share, size=(3, 3)), 0.6)
    shift = rng.choice([-1.0, 1.0]) * rng.uniform(60, 140)
    return image.astype(np.float32) + np.float32(shift), share


def _blurred(image: _Image, other: _Image, rng: np.random.Generator) -> _Change:
    """A patch that has lost its texture: worn, smeared or molten."""
    share = _blob(image, rng, 0.06, 0.18)
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (5, 5, 0))
    return ndimage.shift(smooth, (*rng.uniform(-6, 6, 2), 0), order=1, mode="nearest"), share


PLANTED: dict[str, _Planter] = {
    "exchanged": _exchanged,
    "added": _added,
    "removed": _removed,
    "mirrored": _mirrored,
    "stained": _stained,
    "scratched": _scratched,
    "blurred": _blurred,
}
"""Kinds of planted anomalies: the first four of arrangement (logical), the others damage (structural)."""
LOGICAL = ("exchanged", "added", "removed", "mirrored")
