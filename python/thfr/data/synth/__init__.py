"""Made-up data in MVTec LOCO AD's layout: a tray of parts with rules of count, place and matching colours.

For trying the whole pipeline without any download. Rendered from scratch, so it carries nobody's licence.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from thfr.data.base import GOOD
from thfr.data.formats.mvtec_loco import CONFIG_NAME
from thfr.data.parallel import parallel_map
from thfr.data.synth.defects import Job, defects_config, spoil
from thfr.data.synth.render import sample_light, shade
from thfr.data.synth.scene import draw, good_scene
from thfr.errors import InputError
from thfr.io import atomic_path, atomic_write_json

CATEGORY = "synth_tray"


@dataclass(frozen=True)
class _Task:
    split: str
    kind: str
    index: int
    stream: int
    """Number of the split and kind: each image has its own random stream, whatever the other images are."""


def split_sizes(images: int) -> dict[tuple[str, str], int]:
    """How many images each split and kind gets for ``images`` training images: an eighth of them, at least
    two, for validation; a third, at least four, for each of the three kinds of test image."""
    test = max(4, images // 3)
    return {
        ("train", GOOD): images,
        ("validation", GOOD): max(2, images // 8),
        ("test", GOOD): test,
        ("test", "logical_anomalies"): test,
        ("test", "structural_anomalies"): test,
    }


def generate(out: str | os.PathLike[str], images: int = 96, seed: int = 0, progress: bool = False) -> Path:
    """Write the data set ``out/synth_tray``, whole or not at all, and return that folder.

    320 x 320 RGB images of a tray (see :mod:`thfr.data.synth.scene` for the rules it has to keep), masks and
    ``defects_config.json`` in the official layout (:class:`thfr.data.MVTecLOCO`). The same ``images`` and
    ``seed`` give the same bytes; an image depends on its place and the seed only, so a larger set starts with
    the smaller one's images.

    Args:
        images: number of training images; :func:`split_sizes` tells how many test images that brings.
        seed: any integer >= 0.
        progress: show a bar.

    Raises:
        InputError: ``images`` or ``seed`` is out of range, or ``out/synth_tray`` is there and not empty.
    """
    if images < 2:
        raise InputError(f"synth: images must be at least 2, got {images}")
    if seed < 0:
        raise InputError(f"synth: seed must be at least 0, got {seed}")
    target = Path(out) / CATEGORY
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"synth: {target} is there already; give another folder or remove it")
    entries = defects_config()
    values = {entry.defect_name: entry.pixel_value for entry in entries}
    tasks = [
        _Task(split, kind, index, stream)
        for stream, ((split, kind), count) in enumerate(split_sizes(images).items())
        for index in range(count)
    ]
    with atomic_path(target) as folder:

        def write(task: _Task) -> None:
            image, regions = render(task.kind, task.index, (seed, task.stream, task.index))
            _save(image, folder / task.split / task.kind / f"{task.index:03d}.png")
            for channel, (name, mask) in enumerate(regions):
                place = folder / "ground_truth" / task.kind / f"{task.index:03d}" / f"{channel:03d}.png"
                _save(np.where(mask, values[name], 0).astype(np.uint8), place)

        parallel_map(write, tasks, progress=progress, description="synth")
        atomic_write_json(folder / CONFIG_NAME, [entry.model_dump() for entry in entries])
    return target


def render(
    kind: str, index: int, entropy: tuple[int, ...]
) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """One image, uint8 RGB [H, W, 3], with the name and bool [H, W] mask of each of its defects."""
    rng = np.random.default_rng(entropy)
    scene = good_scene(rng)
    job = Job(scene) if kind == GOOD else spoil(scene, kind, index, rng)
    canvas = draw(job.scene, rng)
    for overlay in job.overlays:
        overlay(canvas)
    return shade(canvas, sample_light(rng), rng), job.regions


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=4)
