"""The product: a tray of four compartments, and the parts that belong in them.

Rules of a good tray (what an inspection has to know):

- top left: two bolts, heads to the left, one above the other;
- top right: one washer and one nut, either of them on top;
- bottom left: one cap, red, yellow or blue;
- bottom right: one label, whose stripe has the colour of the cap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from thfr.data.synth.render import SIZE, Canvas, Frame, box, coverage, hexagon, image_frame, noise

COLOURS = {"red": (0.74, 0.13, 0.12), "yellow": (0.90, 0.70, 0.10), "blue": (0.12, 0.27, 0.68)}
STEEL, BRASS, PAPER = (0.60, 0.61, 0.63), (0.72, 0.58, 0.34), (0.86, 0.85, 0.81)
PLASTIC, BENCH, INK = (0.23, 0.25, 0.27), (0.60, 0.58, 0.54), (0.13, 0.13, 0.15)

TRAY_HALF = 146.0
FLOOR, RIM = 2.0, 11.0
# Centres of the compartments in the tray's frame (origin at its centre), and their half edge.
COMPARTMENTS = {"bolts": (-67, -67), "rings": (67, -67), "cap": (-67, 67), "label": (67, 67)}
COMPARTMENT_HALF = 61.0

_BARS = ((-40, 5), (-31, 3), (-25, 6), (-15, 3), (-9, 3), (-1, 6), (8, 3), (14, 5), (22, 3), (28, 3), (36, 6))


@dataclass(frozen=True)
class Part:
    """One part in the tray's frame: pixels from the tray's centre, radians."""

    kind: str
    x: float
    y: float
    angle: float
    colour: str = ""
    flaw: str = ""
    """``broken``, ``bent`` or ``torn``; empty for a sound part."""
    flaw_size: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Everything that is drawn, before light."""

    tray_x: float
    tray_y: float
    tray_angle: float
    parts: tuple[Part, ...]

    def tray(self) -> Frame:
        return image_frame().at(SIZE / 2 + self.tray_x, SIZE / 2 + self.tray_y, self.tray_angle)

    def find(self, kind: str) -> list[Part]:
        return [part for part in self.parts if part.kind == kind]

    def swap(self, old: Part, *new: Part) -> Scene:
        """The scene with ``old`` replaced by ``new`` (by nothing: taken out)."""
        return replace(self, parts=tuple(part for part in self.parts if part is not old) + new)

    def mask(self, *parts: Part) -> np.ndarray:
        """bool [H, W]: the pixels that the parts cover."""
        frame = self.tray()
        return np.logical_or.reduce([outline(part, frame) < 0 for part in parts])


def good_scene(rng: np.random.Generator) -> Scene:
    colour = str(rng.choice(list(COLOURS)))
    upper, lower = ("washer", "nut") if rng.random() < 0.5 else ("nut", "washer")
    parts = (
        jittered(rng, "bolt", "bolts", 0, -29, turn=6, spread=3.5),
        jittered(rng, "bolt", "bolts", 0, 29, turn=6, spread=3.5),
        jittered(rng, upper, "rings", 0, -29, turn=30, spread=(10, 2)),
        jittered(rng, lower, "rings", 0, 29, turn=30, spread=(10, 2)),
        jittered(rng, "cap", "cap", 0, 0, turn=180, spread=7, colour=colour),
        jittered(rng, "label", "label", 0, 0, turn=4, spread=4, colour=colour),
    )
    x, y = rng.uniform(-3, 3, 2)
    return Scene(tray_x=x, tray_y=y, tray_angle=np.deg2rad(rng.uniform(-1.2, 1.2)), parts=parts)


def jittered(
    rng: np.random.Generator,
    kind: str,
    compartment: str,
    x: float,
    y: float,
    *,
    turn: float,
    spread: float | tuple[float, float],
    colour: str = "",
) -> Part:
    """A part near (x, y) of its compartment's centre, up to ``turn`` degrees and ``spread`` pixels off."""
    centre_x, centre_y = COMPARTMENTS[compartment]
    dx, dy = rng.uniform(-1, 1, 2) * np.asarray(spread)
    angle = np.deg2rad(rng.uniform(-turn, turn))
    return Part(kind, centre_x + x + dx, centre_y + y + dy, angle, colour)


def local(part: Part, tray: Frame) -> Frame:
    """The part's own frame; along a bent bolt it follows the bend."""
    frame = tray.at(part.x, part.y, part.angle)
    if part.flaw != "bent":
        return frame
    return Frame(frame.u, frame.v + np.maximum(frame.u + 12, 0) ** 2 * part.flaw_size)


def outline(part: Part, tray: Frame) -> np.ndarray:
    """Signed distance to what a part covers, flaw included."""
    frame = local(part, tray)
    if part.kind == "bolt":
        return _bolt(part, frame)
    if part.kind == "nut":
        return np.maximum(hexagon(frame, 22), 11 - frame.radius)
    if part.kind == "washer":
        ring = np.abs(frame.radius - 19.5) - 8.5
        if part.flaw != "broken":
            return ring
        gap = np.maximum(np.abs(frame.v) - part.flaw_size / 2 - 0.8 * np.sin(frame.u), -frame.u)
        return np.maximum(ring, -gap)
    if part.kind == "cap":
        return frame.radius - 40 - 1.1 * np.cos(24 * np.arctan2(frame.v, frame.u))
    card = box(frame, 49, 43, corner=3)
    if part.flaw != "torn":
        return card
    return np.maximum(card, torn_corner(part, frame))


def torn_corner(part: Part, frame: Frame) -> np.ndarray:
    """Positive over the corner that is torn off, ``flaw_size`` pixels along both edges."""
    ragged = 1.6 * np.sin(0.45 * (frame.u - frame.v)) + 0.9 * np.sin(1.1 * (frame.u - frame.v) + 1)
    return (frame.u + frame.v - (49 + 43) + part.flaw_size) / np.sqrt(2) + ragged


def _bolt(part: Part, frame: Frame) -> np.ndarray:
    thread = np.where(frame.u > -14, 0.9 * np.sin(frame.u * 2 * np.pi / 6.5), 0)
    shaft = box(frame.at(8, 0), 42, 8.5, corner=3) - thread
    if part.flaw == "broken":
        shaft = np.maximum(shaft, frame.u - (50 - part.flaw_size) + 1.5 * np.sin(frame.v * 1.2))
    return np.minimum(shaft, box(frame.at(-41, 0), 9, 17, corner=4))


def draw(scene: Scene, rng: np.random.Generator) -> Canvas:
    """Bench, tray, then the parts in order."""
    canvas, tray = Canvas(), scene.tray()
    grain = 0.020 * noise(rng, (0.6, 9.0)) + 0.012 * noise(rng, 14)
    everywhere = np.full((SIZE, SIZE), -1.0)
    canvas.put(everywhere, np.zeros((SIZE, SIZE)), np.array(BENCH) * (1 + grain)[..., None], gloss=0.02)
    pitted = 1 + 0.035 * noise(rng, 0.9)
    body = box(tray, TRAY_HALF, TRAY_HALF, corner=14)
    rim = RIM * np.clip(-body / 4, 0, 1) + 0.12 * noise(rng, 1.0)
    canvas.put(body, rim, np.array(PLASTIC) * pitted[..., None], gloss=0.10)
    for x, y in COMPARTMENTS.values():
        hollow = box(tray.at(x, y), COMPARTMENT_HALF, COMPARTMENT_HALF, corner=9)
        floor = FLOOR + (RIM - FLOOR) * np.clip(1 + hollow / 5, 0, 1) + 0.10 * noise(rng, 1.0)
        canvas.put(hollow, floor, 1.12 * np.array(PLASTIC) * pitted[..., None], gloss=0.08)
    texture = noise(rng, (0.5, 1.4))
    for part in scene.parts:
        window = _window(part, scene)
        _draw_part(canvas.window(window), part, tray.window(window), texture[window])
    return canvas


def _window(part: Part, scene: Scene, reach: int = 72) -> tuple[slice, slice]:
    """Rows and columns around a part, so that it is drawn at the cost of its size."""
    cos, sin = np.cos(scene.tray_angle), np.sin(scene.tray_angle)
    column = int(SIZE / 2 + scene.tray_x + cos * part.x - sin * part.y)
    row = int(SIZE / 2 + scene.tray_y + sin * part.x + cos * part.y)
    return slice(max(row - reach, 0), row + reach), slice(max(column - reach, 0), column + reach)


def _draw_part(canvas: Canvas, part: Part, tray: Frame, texture: np.ndarray) -> None:
    frame, distance = local(part, tray), outline(part, tray)
    base = np.median(canvas.height[distance < 0])  # what it lies on
    depth = -distance
    if part.kind == "bolt":
        head = frame.u < -32
        round_ = np.sqrt(np.maximum(81 - np.minimum(np.abs(frame.v), 9) ** 2, 0))
        surface = np.where(
            head, 13 * np.clip(depth / 3, 0, 1), np.minimum(round_, 3.5 * np.maximum(depth, 0))
        )
        steel = np.array(STEEL) * (1 + 0.03 * texture)[..., None]
        canvas.put(distance, base + surface, steel, gloss=0.35)
    elif part.kind in ("nut", "washer"):
        thickness, metal = (9.0, STEEL) if part.kind == "nut" else (3.5, BRASS)
        surface = thickness * np.clip(depth / 3.0, 0, 1)
        colour = np.array(metal) * (1 + 0.03 * texture)[..., None]
        canvas.put(distance, base + surface, colour, gloss=0.30)
    elif part.kind == "cap":
        dish = 3.5 * coverage(frame.radius - 27) - 2.0 * coverage(np.abs(frame.radius - 12) - 4)
        surface = 10 * np.clip(depth / 4, 0, 1) - dish
        canvas.put(distance, base + surface, np.array(COLOURS[part.colour]), gloss=0.22)
    else:
        _draw_label(canvas, part, frame, distance, texture)


def _draw_label(canvas: Canvas, part: Part, frame: Frame, distance: np.ndarray, texture: np.ndarray) -> None:
    paper = np.array(PAPER) * (1 + 0.010 * texture)[..., None]
    canvas.put(distance, FLOOR + 1.2 * np.clip(-distance, 0, 1), paper, gloss=0.03)
    card = coverage(distance)
    canvas.tint(card * coverage(box(frame.at(0, -24), 49, 14)), np.array(COLOURS[part.colour]))
    for row, width in ((-2, 40), (7, 31)):
        canvas.tint(card * coverage(box(frame.at(width - 43, row), width, 1.6)), np.array(INK))
    for x, width in _BARS:
        canvas.tint(card * coverage(box(frame.at(x, 26), width / 2 - 0.6, 11)), np.array(INK))


def nominal_area(kind: str) -> int:
    """The area in pixels of a sound part of this kind."""
    part = Part(kind, 0, 0, 0)
    return int((outline(part, image_frame().at(SIZE / 2, SIZE / 2)) < 0).sum())
