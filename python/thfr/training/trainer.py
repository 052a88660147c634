"""Training: from a list of good images to a run folder that holds a detector of any method.

A run folder: ``config.yaml``; ``log.jsonl``, one JSON object a line; ``checkpoint.safetensors`` while
training goes on; ``model.safetensors``, ``backbone.safetensors`` and, last of all, ``run.json`` when done.
"""

from __future__ import annotations

import hashlib
import logging
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thfr.backbones import FeatureExtractor, create_backbone
from thfr.config import RunConfig, TrainingConfig
from thfr.data import Dataset, Sample, load_images
from thfr.errors import InputError
from thfr.io import atomic_write_json, atomic_write_text
from thfr.methods import Detector, FitContext, detector_class, resolve_device
from thfr.methods.common.batches import held_out
from thfr.methods.common.optimisation import log
from thfr.methods.registry import read_config
from thfr.runs import files
from thfr.runs.threshold import DEFAULT_RATE

_LOGGER = logging.getLogger(__name__)


def is_finished(out: Path) -> bool:
    """True if the run folder holds a finished training."""
    return (Path(out) / files.RUN).is_file()


def train(
    config: RunConfig,
    dataset: Dataset | Sequence[Sample | str | os.PathLike[str]],
    out: Path | str,
    *,
    weights: Path | str | None = None,
    device: str = "auto",
    progress: bool = True,
    checkpoint_seconds: float = 60.0,
    cache_budget: int = 4 << 30,
    false_alarm_rate: float = DEFAULT_RATE,
) -> Detector[Any]:
    """Train on the good images of ``dataset`` (its training split, or the images given); write ``out``.

    The same call on an unfinished run goes on from its checkpoint and ends bit for bit where an unbroken run
    would (on one machine, with as many threads); on a finished run it says so and only loads it.
    ``weights``: a file for the backbone. ``checkpoint_seconds``: time between checkpoints (0: every step).
    ``cache_budget``: bytes of features kept in memory; more go to a mapped file in ``out``.
    ``false_alarm_rate``: share of good images that the threshold may call bad. It is set by the validation
    images and those held out; without any the run has none (``thfr calibrate`` sets it later).

    Raises InputError for images or weights that cannot be used, for fewer than two images to learn from, and
    for a run folder of another configuration, naming the fields that differ.
    """
    out, where = Path(out), resolve_device(device)
    if not 0 < false_alarm_rate < 1:
        raise InputError(f"train: false_alarm_rate: expected a share in (0, 1), got {false_alarm_rate}")
    samples, numbers, unseen = divide(dataset, config.training)
    size = config.model.size
    images = load_images(samples, (size, size), progress=progress)
    good = load_images(unseen, (size, size), progress=progress) if unseen else None
    extractor = _make_extractor(config, weights)
    config = config.model_copy(
        update={
            "weights_digest": None if extractor is None else extractor.weights_digest,
            "dataset": _describe(dataset, images),
        }
    )
    _claim(out, config)
    if is_finished(out):
        _LOGGER.warning("train: %s holds a finished run of this configuration; nothing to do", out)
        return Detector.load(out, device)
    context = FitContext(images, numbers, out, where, progress, checkpoint_seconds, cache_budget)
    started = time.monotonic()
    placed = None if extractor is None else extractor.to(where)
    detector, facts = detector_class(config.method).fit(config, placed, context)
    facts = {"train_seconds": round(time.monotonic() - started, 3), **facts}
    if good is not None:
        detector.calibrate(good, false_alarm_rate, "good images not learnt from")
    detector.save(out)
    _finish(out, config, facts, context, good)
    return detector


def _finish(
    out: Path, config: RunConfig, facts: dict[str, Any], context: FitContext, good: Tensor | None
) -> None:
    """Mark the run folder as finished."""
    facts = {
        "steps": config.training.steps(len(context.images)),
        "images": len(context.images),
        "calibration_images": 0 if good is None else len(good),
        "peak_memory_bytes": peak_memory(),
        "device": context.device.type,
        "weights_digest": config.weights_digest,
        **facts,
    }
    atomic_write_json(out / files.RUN, facts)
    log(out, finished=True, **facts)
    (out / files.CHECKPOINT).unlink(missing_ok=True)


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _make_extractor(config: RunConfig, weights: Path | str | None) -> FeatureExtractor | None:
    model = config.model
    if weights is not None and not config.uses_backbone:
        raise InputError(f"train: weights were given, but {config.title} uses no backbone")
    if weights is not None and not model.pretrained:
        raise InputError("train: weights were given together with pretrained=False")
    if not config.uses_backbone:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)  # only a test's random weights depend on it
        return create_backbone(model.backbone, weights, model.pretrained)


def divide(
    dataset: Dataset | Sequence[Any], settings: TrainingConfig
) -> tuple[Sequence[Any], Tensor, Sequence[Any]]:
    """The images to learn from with their numbers, and the good ones that only set the threshold."""
    samples = dataset.train if isinstance(dataset, Dataset) else tuple(dataset)
    validation = dataset.validation if isinstance(dataset, Dataset) else ()
    held = held_out(len(samples), settings.holdout, settings.seed).tolist()
    learnt = sorted(set(range(len(samples))).difference(held))
    if len(learnt) < 2:
        kept = f" of {len(samples)} with holdout {settings.holdout}" if held else ""
        raise InputError(f"train: needs at least two good images to learn from, got {len(learnt)}{kept}")
    unseen = [*(samples[number] for number in held), *validation]
    return [samples[number] for number in learnt], torch.tensor(learnt), unseen


def _describe(dataset: Dataset | Sequence[Any], images: Tensor) -> dict[str, str | int]:
    """Enough to notice that the data changed under a run, without paths, so that a data set may move."""
    facts: dict[str, str | int] = {"images": len(images)}
    facts["pixels_sha256"] = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    if isinstance(dataset, Dataset):
        facts |= {"name": dataset.name, "category": dataset.category}
    return facts


def _claim(out: Path, config: RunConfig) -> None:
    """Make ``out`` this configuration's run folder, or refuse."""
    if out.exists() and not out.is_dir():
        raise InputError(f"train: expected a run folder, got the file {out}")
    path = out / files.CONFIG
    if path.is_file():
        there = read_config(path)
        if there.method != config.method:
            raise InputError(f"train: {out} holds a run of the method {there.method}, not {config.method}")
        differing = config.differences(there)
        if differing:
            raise InputError(f"train: {out} holds a run of another configuration: {'; '.join(differing)}")
        return
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"train: {out} is not empty and not a run folder (no {files.CONFIG})")
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, config.to_yaml())
