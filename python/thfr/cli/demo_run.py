"""The whole method on made-up images, from nothing to a report: ``thfr demo`` and ``make demo``.

Needs no data, no network and no GPU. Everything it makes is below one folder; a call on an unfinished
folder is resumed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from thfr.data import load_dataset
from thfr.data.synth import generate
from thfr.errors import InputError
from thfr.evaluation import evaluate_maps
from thfr.io import atomic_write_json, read_map
from thfr.methods.thfr.config import THFRConfig
from thfr.runs import files
from thfr.runs.folder import read_metadata
from thfr.runs.json_file import read_object
from thfr.training import train
from thfr.visualization import Report, overlay, write_contact_sheet, write_report
from thfr.visualization.plots import headline
from thfr.visualization.results import RunResults, results_of
from thfr.visualization.run_report import make_report

SETTINGS_FILE = "demo.json"
BACKBONE = "tf_efficientnet_lite0"  # its weights come with an installed package


def run(
    out: str | os.PathLike[str] = "demo",
    *,
    images: int = 96,
    steps: int = 200,
    size: int = 256,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Make up a product, learn from good images of it, find the defects in others, and write a report.

    Below ``out``: ``data`` (the images), ``run`` (the trained detector, with ``metrics.json``), ``results``
    (maps, pictures, tables), ``report.html``, ``report.png``, and ``demo.json`` with the settings. With the
    default settings it takes two to three minutes on two processor cores. What is there already is not made
    again.

    Args:
        images: good images to learn from; there are as many to test with.
        steps: training steps of eight images each.
        size: edge of the square that images are resized to, a multiple of 32.
        seed: of data, weights and training.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: show phases and the time left on stderr.

    Returns:
        ``report``, ``contact_sheet``, ``run``, ``data``, ``results``: paths; ``metrics``: what
        ``metrics.json`` holds.

    Raises:
        InputError: a setting is out of range, or ``out`` is a file, or holds something else or a demo with
            other settings.
    """
    settings = {
        "model": {"backbone": BACKBONE, "size": size, "bottleneck_channels": 256},
        "training": {"epochs": 1, "min_steps": steps, "seed": seed},
    }
    config = THFRConfig.from_values(settings, "settings of the demo")
    folder = Path(out)
    _claim(folder, {"images": images, "steps": steps, "size": size, "seed": seed})
    say = partial(_phase, progress)
    with say("1/5 make up images of a product"):
        if not (folder / "data").is_dir() or not any((folder / "data").iterdir()):
            generate(folder / "data", images=images, seed=seed, progress=progress)
        dataset = load_dataset("mvtec_loco", folder / "data")
    with say(f"2/5 learn from {len(dataset.train)} good images"):
        detector = train(config, dataset, folder / "run", device=device, progress=progress)
    with say(f"3/5 look for defects in {len(dataset.test)} other images"):
        results = results_of(
            folder / "run", detector, dataset, folder / "results", draw=lambda _, *given: overlay(*given),
            progress=progress,
        )  # fmt: skip
    with say("4/5 compare with the truth"):
        metrics = _metrics(results, progress)
    paths = {"report": folder / "report.html", "contact_sheet": folder / "report.png"}
    with say("5/5 write the report"):
        if not all(path.is_file() for path in paths.values()):
            report = _report(results, metrics)
            write_contact_sheet(paths["contact_sheet"], report)
            write_report(paths["report"], report)
    paths |= {name: folder / name for name in ("run", "data", "results")}
    return {name: str(path) for name, path in paths.items()} | {"metrics": metrics}


def summary(found: dict[str, Any]) -> str:
    """What :func:`run` returned, in words."""
    lines = [
        f"{name:22}{100 * value:5.1f} %  {meaning}" for name, value, meaning in headline(found["metrics"])
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"to look at:   {found['report']}",
            f"in one page:  {found['contact_sheet']}",
            f"next:         thfr predict {found['run']} IMAGES --out results   (of this product only)",
            f"              thfr train --dataset folder --data GOOD_IMAGES --out RUN --backbone {BACKBONE}",
        ]
    )


def _claim(folder: Path, settings: dict[str, int]) -> None:
    """Make ``folder`` the demo's with these settings, or refuse."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"demo: out must be a folder, got the file {folder}")
    path = folder / SETTINGS_FILE
    if path.is_file():
        there = read_object(path, "demo", f"remove {folder} to start again")
        if there != settings:
            raise InputError(
                f"demo: {folder} holds a demo with other settings, {there}, not {settings}; "
                "give another folder or remove it"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"demo: {folder} is not empty and holds no demo (no {SETTINGS_FILE}); give another folder"
        )
    else:
        atomic_write_json(path, settings)


@contextmanager
def _phase(show: bool, title: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    started = time.monotonic()
    if show:
        print(f"[{title}]", file=sys.stderr, flush=True)
    yield
    if show:
        print(f"    {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _metrics(results: RunResults, progress: bool) -> dict[str, Any]:
    """The figures, from the maps on disk; kept where ``thfr evaluate`` keeps them."""
    path = results.run / files.METRICS
    if not path.is_file():
        maps = {sample: read_map(path) for sample, path in results.maps.items()}
        atomic_write_json(path, evaluate_maps(results.dataset, maps, results.scores, progress=progress))
    return read_object(path, "demo")


def _report(results: RunResults, metrics: dict[str, Any]) -> Report:
    learnt, seconds = len(results.dataset.train), read_metadata(results.run).train_seconds
    return replace(
        make_report(results, metrics=metrics),
        title="THFR finds what is wrong on a tray of parts",
        subtitle=f"A made-up product. The detector has seen {learnt} good images of it, not one defect; it "
        f"learnt for {seconds:.0f} s.",
    )
