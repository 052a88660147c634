"""What can be wrong with a tray, where that is annotated, and how much of it has to be found.

The saturation thresholds follow MVTec LOCO AD's reasoning: where one can only say *that* something is wrong
(a part too many, two colours that disagree), every candidate is annotated and the area of one part is enough;
where a part is missing, all places it could have been in are annotated, and again the part's area is enough;
damage is annotated as it is, and all of it (or a fraction, where its outline is vague) has to be found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from thfr.data.formats.mvtec_loco import Defect
from thfr.data.synth.render import Canvas, Frame, box, coverage, image_frame
from thfr.data.synth.scene import (
    COLOURS,
    COMPARTMENTS,
    Part,
    Scene,
    jittered,
    local,
    nominal_area,
)

SLOT_HALF = (57, 28)
STRIPE_HALF = (49, 14)


@dataclass
class Job:
    """A scene on its way to becoming an anomalous image."""

    scene: Scene
    regions: list[tuple[str, np.ndarray]] = field(default_factory=list)
    """Name and bool [H, W] mask of each defect."""
    overlays: list[Callable[[Canvas], None]] = field(default_factory=list)
    """Damage that is applied to the finished canvas."""

    def add(self, name: str, mask: np.ndarray) -> None:
        self.regions.append((name, mask))


def _pick(rng: np.random.Generator, parts: list[Part]) -> Part:
    """One of the sound parts: a second flaw on the same part would make the first one's mask wrong."""
    sound = [part for part in parts if not part.flaw]
    return sound[int(rng.integers(len(sound)))]


def _slot(scene: Scene, part: Part) -> np.ndarray:
    """The half of its compartment that a bolt, washer or nut lies in."""
    centre_x, centre_y = COMPARTMENTS["bolts" if part.kind == "bolt" else "rings"]
    side = -29 if part.y < centre_y else 29
    return box(scene.tray().at(centre_x, centre_y + side), *SLOT_HALF, corner=6) < 0


# Logical anomalies: every part is sound, the arrangement is wrong.


def _missing(kind: str) -> Callable[[Job, np.random.Generator], None]:
    def apply(job: Job, rng: np.random.Generator) -> None:
        part = _pick(rng, job.scene.find(kind))
        if kind == "cap":
            zone = box(job.scene.tray().at(*COMPARTMENTS["cap"]), 57, 57, corner=6) < 0
        else:
            zone = _slot(job.scene, part)
        job.add(f"missing_{kind}", zone)
        job.scene = job.scene.swap(part)

    return apply


def _extra_bolt(job: Job, rng: np.random.Generator) -> None:
    for part in job.scene.find("bolt"):
        job.scene = job.scene.swap(part)
    bolts = [jittered(rng, "bolt", "bolts", 0, y, turn=2, spread=(3.5, 1.5)) for y in (-39, 0, 39)]
    job.scene = replace(job.scene, parts=job.scene.parts + tuple(bolts))
    job.add("extra_bolt", job.scene.mask(*bolts))


def _twice(kind: str, instead_of: str) -> Callable[[Job, np.random.Generator], None]:
    """Either of the two may be the wrong one: a good tray has this kind at both places."""

    def apply(job: Job, rng: np.random.Generator) -> None:
        (other,) = job.scene.find(instead_of)
        job.scene = job.scene.swap(other, replace(other, kind=kind))
        job.add(f"{kind}_for_{instead_of}", job.scene.mask(*job.scene.find(kind)))

    return apply


def _extra_washer(job: Job, rng: np.random.Generator) -> None:
    (washer,), (nut,) = job.scene.find("washer"), job.scene.find("nut")
    side = -29 if washer.y < nut.y else 29
    pair = [jittered(rng, "washer", "rings", x, side, turn=30, spread=(0.5, 2)) for x in (-29, 29)]
    job.scene = job.scene.swap(washer, *pair)
    job.add("extra_washer", job.scene.mask(*pair))


def _misplaced_nut(job: Job, rng: np.random.Generator) -> None:
    (nut,) = job.scene.find("nut")
    job.add("missing_nut", _slot(job.scene, nut))
    stray = jittered(rng, "nut", "label", 0, 0, turn=30, spread=30)
    job.scene = job.scene.swap(nut, stray)  # comes last, so it lies on the label
    job.add("misplaced_nut", job.scene.mask(stray))


def _mismatched_label(job: Job, rng: np.random.Generator) -> None:
    (label,), (cap,) = job.scene.find("label"), job.scene.find("cap")
    others = [name for name in COLOURS if name != cap.colour]
    label = replace(label, colour=str(rng.choice(others)))
    job.scene = job.scene.swap(job.scene.find("label")[0], label)
    stripe = box(local(label, job.scene.tray()).at(0, -24), *STRIPE_HALF) < 0
    job.add("mismatched_label", (stripe & job.scene.mask(label)) | job.scene.mask(cap))


def _swapped(job: Job, rng: np.random.Generator) -> None:
    (label,), (cap,) = job.scene.find("label"), job.scene.find("cap")
    moved = replace(cap, x=-cap.x), replace(label, x=-label.x)
    job.scene = job.scene.swap(cap).swap(label, *moved)
    job.add("swapped_cap_and_label", job.scene.mask(*moved))


def _swapped_bolts(job: Job, rng: np.random.Generator) -> None:
    parts = [part for kind in ("bolt", "washer", "nut") for part in job.scene.find(kind)]
    moved = [replace(part, x=-part.x) for part in parts]
    for part, there in zip(parts, moved, strict=True):
        job.scene = job.scene.swap(part, there)
    job.add("swapped_bolts_and_rings", job.scene.mask(*moved))


# Structural anomalies: something is damaged or dirty.


def _broken_bolt(job: Job, rng: np.random.Generator) -> None:
    bolt = _pick(rng, job.scene.find("bolt"))
    broken = replace(bolt, flaw="broken", flaw_size=rng.uniform(20, 34))
    before = job.scene.mask(bolt)
    job.scene = job.scene.swap(bolt, broken)
    job.add("broken_bolt", before & ~job.scene.mask(broken))


def _bent_bolt(job: Job, rng: np.random.Generator) -> None:
    bolt = _pick(rng, job.scene.find("bolt"))
    bend = rng.uniform(0.0042, 0.0062) * rng.choice([-1, 1])
    bent = replace(bolt, flaw="bent", flaw_size=bend, angle=bolt.angle + 8 * bend)
    job.scene = job.scene.swap(bolt, bent)
    tail = local(bent, job.scene.tray()).u > 0
    job.add("bent_bolt", job.scene.mask(bent) & tail)


def _broken_washer(job: Job, rng: np.random.Generator) -> None:
    (washer,) = job.scene.find("washer")
    angle = washer.angle + rng.uniform(0, 2 * np.pi)
    broken = replace(washer, flaw="broken", flaw_size=rng.uniform(14, 22), angle=angle)
    before = job.scene.mask(washer)
    job.scene = job.scene.swap(washer, broken)
    job.add("broken_washer", before & ~job.scene.mask(broken))


def _torn_label(job: Job, rng: np.random.Generator) -> None:
    (label,) = job.scene.find("label")
    torn = replace(label, flaw="torn", flaw_size=rng.uniform(28, 46))
    before = job.scene.mask(label)
    job.scene = job.scene.swap(label, torn)
    job.add("torn_label", before & ~job.scene.mask(torn))


def _scratch(job: Job, rng: np.random.Generator) -> None:
    """A bright curved groove across whatever lies there."""
    start = rng.uniform(-95, 95, 2)
    heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(60, 110)
    way = np.array([np.cos(heading), np.sin(heading)])
    if np.abs(start + way * length).max() > 125:
        way = -way
    bulge = np.array([-way[1], way[0]]) * rng.uniform(-14, 14)
    t = np.linspace(0, 1, 9)[:, None]
    points = start + t * way * length + 4 * t * (1 - t) * bulge
    distance = _polyline(job.scene.tray(), points) - rng.uniform(1.5, 2.2)

    def overlay(canvas: Canvas) -> None:
        canvas.tint(0.75 * coverage(distance), np.array((0.80, 0.80, 0.79)))
        canvas.height -= 1.2 * coverage(distance)

    job.overlays.append(overlay)
    job.add("scratch", distance < 0.5)


def _polyline(frame: Frame, points: np.ndarray) -> np.ndarray:  # points [P, 2]
    """Distance of every pixel to a line through the points."""
    nearest = np.full(frame.u.shape, np.inf)
    for (x, y), (dx, dy) in zip(points[:-1], np.diff(points, axis=0), strict=True):
        u, v = frame.u - x, frame.v - y
        along = np.clip((u * dx + v * dy) / (dx * dx + dy * dy), 0, 1)
        nearest = np.minimum(nearest, np.hypot(u - along * dx, v - along * dy))
    return nearest


def _stain(job: Job, rng: np.random.Generator) -> None:
    """An oily drop with a wavy edge."""
    x, y = rng.uniform(-105, 105, 2)
    frame = job.scene.tray().at(x, y, rng.uniform(0, np.pi))
    theta = np.arctan2(frame.v, frame.u)
    first, second = rng.uniform(0, 2 * np.pi, 2)
    wave = 0.18 * np.sin(2 * theta + first) + 0.12 * np.sin(5 * theta + second)
    radius = rng.uniform(13, 22)
    distance = np.hypot(frame.u, 1.3 * frame.v) - radius * (1 + wave)

    def overlay(canvas: Canvas) -> None:
        film = np.clip(-distance / 4, 0, 1)
        canvas.tint(0.78 * film, np.array((0.16, 0.10, 0.05)))
        canvas.gloss += 0.25 * film
        canvas.height += 0.8 * film

    job.overlays.append(overlay)
    job.add("stain", distance < -0.5)


def _dent(job: Job, rng: np.random.Generator) -> None:
    """The tray's plastic pressed in, on the bars between the compartments."""
    along, across = rng.uniform(25, 110) * rng.choice([-1, 1]), rng.uniform(-3, 3)
    x, y = (along, across) if rng.random() < 0.5 else (across, along)
    frame = job.scene.tray().at(x, y, rng.uniform(0, np.pi))
    long, short = rng.uniform(18, 25), rng.uniform(13, 17)
    bowl = np.clip(1 - (frame.u / long) ** 2 - (frame.v / short) ** 2, 0, 1)
    depth = rng.uniform(8, 10)

    def overlay(canvas: Canvas) -> None:
        canvas.height -= depth * bowl
        canvas.gloss += 0.12 * np.minimum(2 * bowl, 1)

    job.overlays.append(overlay)
    job.add("dent", bowl > 0.05)


Apply = Callable[[Job, np.random.Generator], None]
# In the order in which the images of a kind take them, over and over.
DEFECTS: dict[str, tuple[Apply, ...]] = {
    "logical_anomalies": (
        _missing("bolt"), _mismatched_label, _extra_bolt, _misplaced_nut,
        _missing("cap"), _twice("washer", "nut"), _swapped, _missing("washer"),
        _twice("nut", "washer"), _extra_washer, _swapped_bolts,
    ),
    "structural_anomalies": (
        _scratch, _broken_bolt, _stain, _torn_label, _dent, _broken_washer, _bent_bolt,
    ),
}  # fmt: skip


def defects_config() -> list[Defect]:
    """The entries of ``defects_config.json``: absolute thresholds are parts' areas in pixels."""
    bolt, nut, washer, cap, label = map(nominal_area, ("bolt", "nut", "washer", "cap", "label"))
    stripe = int((box(image_frame().at(160, 160), *STRIPE_HALF) < 0).sum())
    thresholds: dict[str, int | float] = {
        "missing_bolt": bolt, "missing_washer": washer, "missing_nut": nut, "missing_cap": cap,
        "extra_bolt": bolt, "washer_for_nut": washer, "misplaced_nut": 1.0,
        "mismatched_label": min(stripe, cap), "swapped_cap_and_label": cap + label,
        "scratch": 0.6, "stain": 0.9, "dent": 0.8,
        "broken_bolt": 1.0, "bent_bolt": 1.0, "broken_washer": 1.0, "torn_label": 1.0,
        "nut_for_washer": nut, "extra_washer": washer, "swapped_bolts_and_rings": 2 * bolt + washer + nut,
    }  # fmt: skip
    return [
        Defect(
            defect_name=name,
            pixel_value=255 - index,
            saturation_threshold=threshold,
            relative_saturation=isinstance(threshold, float),
        )
        for index, (name, threshold) in enumerate(thresholds.items())
    ]


def spoil(scene: Scene, kind: str, index: int, rng: np.random.Generator) -> Job:
    """Make a good scene anomalous. Every third structural image gets a second defect of another sort."""
    job, choices = Job(scene), DEFECTS[kind]
    choices[index % len(choices)](job, rng)
    if kind == "structural_anomalies" and index % 3 == 2:
        choices[(index + 2) % len(choices)](job, rng)
    return job
