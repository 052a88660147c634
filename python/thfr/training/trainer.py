"""Training: from a list of good images to a run folder that holds a detector of any method
(:mod:`thfr.runs.files`).
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thfr import distributed
from thfr.backbones import FeatureExtractor, create_backbone
from thfr.config import ModelConfig, RunConfig, TrainingConfig
from thfr.data import Dataset, ImageProfile, JoinedDataset, Sample, gathered, load_inputs
from thfr.data.base import as_sample
from thfr.data.images import Loaded
from thfr.data.mapped import pieces
from thfr.data.parallel import parallel_map
from thfr.errors import InputError
from thfr.io import Region, atomic_write_text, file_sha256, image_size, read_region
from thfr.methods import Detector, FitContext, detector_class, resolve_device
from thfr.methods.common.batches import held_out
from thfr.methods.common.calibrating import calibrate_categories, find_categories
from thfr.methods.common.tiles import tiles_of
from thfr.methods.registry import read_config
from thfr.random_streams import Stream, drawn, generator
from thfr.runs import files
from thfr.runs.digest import combined, file_digests
from thfr.runs.folder import (
    RunData,
    RunMetadata,
    append_log,
    is_claimed,
    is_finished,
    read_metadata,
    write_data,
    write_metadata,
)
from thfr.runs.inputs import RunInputs, find_options
from thfr.runs.lock import locked
from thfr.runs.threshold import DEFAULT_RATE
from thfr.training.memory import peak_memory
from thfr.training.scale import calibrate_without_itself, good_scale

_LOGGER = logging.getLogger(__name__)


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
    bit_depth: int | None = None,
    roi: str | os.PathLike[str] | None = None,
) -> Detector[Any]:
    """Train on the good images of ``dataset`` (its training split, or the images given); write ``out``.

    The same call on an unfinished run resumes it from its checkpoint and ends bit for bit where an
    unbroken run would (on one machine, with as many threads); on a finished run it says so and only loads
    it. ``out`` is locked meanwhile.

    Under ``torchrun`` all processes share the work, and the main one writes; ``out`` and the images must be
    on a file system that all see.

    Args:
        weights: file of the backbone's weights.
        checkpoint_seconds: time between checkpoints (0: every step).
        cache_budget: bytes of features kept in memory; more go to a mapped file in ``out``. Training images
            (at input size) of more bytes go to one beside it.
        false_alarm_rate: share of good images that the threshold may call bad. It is set by the validation
            images and those held out; without any by training images scored as new ones, where the method
            can (:attr:`thfr.config.RunConfig.leaves_out`), else not (``thfr calibrate`` sets it later).
        bit_depth: of the images' pixels, one of :data:`thfr.io.BIT_DEPTHS`; None: found on the images
            (:func:`thfr.io.find_pixel_range`).
        roi: file of the region of interest, see :func:`thfr.io.read_region`; what lies outside of it is
        neither
            learnt from nor scored. Polygons without a size are those of the first image.

    Raises:
        InputError: images or weights that cannot be used; too few images to learn from; ``out`` holds
            something else, or a run of another configuration (names the fields that differ), or another
            training is at work in it.
    """
    out, where = Path(out), resolve_device(device)
    if not 0 < false_alarm_rate < 1:
        raise InputError(f"train: false_alarm_rate: expected a share in (0, 1), got {false_alarm_rate}")
    given = dataset if isinstance(dataset, Dataset) else [as_sample(one) for one in dataset]
    samples, indices, unseen = divide(given, config.training, config.least_images)
    names = [one.category for one in samples] if isinstance(dataset, JoinedDataset) else []
    _check_categories(config, names, [one.category for one in unseen])
    is_claimed(out)  # a wrong folder is said now, not after the images have been read
    region = None if roi is None else read_region(roi, image_size(samples[0].path, samples[0].oriented))
    config = _with_region(config, region)
    loaded, good, inputs, notes = _read(
        samples, unseen, config.model, bit_depth, region, progress, cache_budget, out.parent
    )
    if isinstance(dataset, Dataset):
        notes += dataset.notes
    images = loaded.images
    extractor = _make_extractor(config, weights)
    config = config.model_copy(
        update={
            "weights_digest": None if extractor is None else extractor.weights_digest,
            "dataset": _describe(dataset, images),
        }
    )
    if _finished_before(out, config):
        return Detector.load(out, device)
    main = distributed.is_main()
    distributed.barrier()  # all have looked before the main one makes the folder
    with locked(out, "train") if main else nullcontext():
        if distributed.world() == 1 and _finished_before(out, config):
            return Detector.load(out, device)
        if main and not is_claimed(out):
            atomic_write_text(out / files.CONFIG, config.to_yaml())
        distributed.barrier()
        count = config.model.tile_count
        tiles = (indices[:, None] * count + torch.arange(count)).flatten()
        shown = progress and main
        context = FitContext(
            tiles_of(images, config.model), tiles, out, where, shown, checkpoint_seconds, cache_budget
        )
        started = time.monotonic()
        placed = None if extractor is None else extractor.to(where)
        detector, metadata = detector_class(config.method).fit(config, placed, context)
        detector.inputs = inputs
        metadata = {"train_seconds": round(time.monotonic() - started, 3), **metadata}
        if not main:
            distributed.barrier()  # until the main one has written everything
            return Detector.load(out, device)
        if names:
            detector.categories = find_categories(detector, images, names)
        words = "good images not learnt from"
        if good is not None and names:
            of = [one.category for one in unseen]
            calibrate_categories(detector, good.images, of, false_alarm_rate, words, good.sizes)
        elif good is not None:
            detector.calibrate(good.images, false_alarm_rate, words, sizes=good.sizes)
        elif config.leaves_out and len(images) > 1:
            of_index = dict(zip(indices.tolist(), names, strict=True)) if names else None
            calibrate_without_itself(detector, false_alarm_rate, of_index)
        else:
            detector.scale = good_scale(detector)
        detector.save(out)
        if isinstance(dataset, Dataset):
            write_data(out, _where(dataset))
        _finish(out, detector, {**metadata, "notes": notes}, context, good)
        distributed.barrier()
    return detector


def _read(
    samples: Sequence[Sample],
    unseen: Sequence[Sample],
    model: ModelConfig,
    bit_depth: int | None,
    region: Region | None,
    progress: bool,
    budget: int,
    folder: Path,
) -> tuple[Loaded, Loaded | None, RunInputs, list[str]]:
    """The images to learn from, those that set the threshold, how both are read, and notes."""
    every = [*samples, *unseen]
    paths, oriented = [one.path for one in every], [one.oriented for one in every]
    options, size = find_options(paths, oriented, bit_depth, model.fit, region), model.canvas
    loaded = load_inputs(samples, size, options, progress=progress, budget=budget, folder=folder)
    notes = [*loaded.notes]
    good = None
    if unseen:
        good = load_inputs(unseen, size, options, progress=progress, budget=budget, folder=folder)
        notes += good.notes
    return loaded, good, RunInputs(options, ImageProfile.of(loaded)), gathered(notes)


def _with_region(config: RunConfig, region: Region | None) -> RunConfig:
    digest = None if region is None else region.digest
    return config.model_copy(update={"model": config.model.model_copy(update={"region": digest})})


def _finish(
    out: Path, detector: Detector, metadata: dict[str, Any], context: FitContext, good: Loaded | None
) -> None:
    """Mark the run folder as finished."""
    config, digests = detector.config, file_digests(out)
    detector.digest = combined(digests)
    found = {
        "steps": config.training.steps(len(context.images)),
        "images": len(context.images) // config.model.tile_count,
        "calibration_images": 0 if good is None else len(good.images),
        "peak_memory_bytes": peak_memory(),
        "device": context.device.type,
        "weights_digest": config.weights_digest,
        **metadata,
    }
    append_log(out, finished=True, **found)
    write_metadata(out, RunMetadata(**found, digests=digests))
    (out / files.CHECKPOINT).unlink(missing_ok=True)


def _where(dataset: Dataset) -> RunData:
    """Where the data set lies, and what its training images are."""
    digests = parallel_map(file_sha256, [sample.path for sample in dataset.train])
    return RunData(dataset.name, str(dataset.root), dataset.category, tuple(digests))


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
        return create_backbone(model.backbone, weights, model.pretrained, model.depths)


def divide(
    dataset: Dataset | Sequence[Any], settings: TrainingConfig, least: int = 1
) -> tuple[Sequence[Any], Tensor, Sequence[Any]]:
    """The images to learn from with their indices, and the good ones that only set the threshold.

    Raises:
        InputError: there are fewer than ``least`` images to learn from.
    """
    if isinstance(dataset, JoinedDataset):
        return _divide_parts(dataset, settings, least)
    samples = dataset.train if isinstance(dataset, Dataset) else tuple(dataset)
    validation = dataset.validation if isinstance(dataset, Dataset) else ()
    held = held_out(len(samples), settings.holdout, settings.seed).tolist()
    learnt = sorted(set(range(len(samples))).difference(held))
    kept = f" of {len(samples)} with holdout {settings.holdout}" if held else ""
    if settings.shots is not None:
        if settings.shots > len(learnt):
            raise InputError(
                f"train: shots: expected at most {len(learnt)} images{kept}, got {settings.shots}"
            )
        chosen = drawn(len(learnt), settings.shots, generator(settings.seed, Stream.SHOTS, 0))
        learnt = [learnt[number] for number in chosen.tolist()]
    if len(learnt) < least:
        wanted = "one good image" if least == 1 else f"{least} good images"
        raise InputError(f"train: needs at least {wanted} to learn from, got {len(learnt)}{kept}")
    unseen = [*(samples[number] for number in held), *validation]
    return [samples[number] for number in learnt], torch.tensor(learnt), unseen


def _divide_parts(
    dataset: JoinedDataset, settings: TrainingConfig, least: int
) -> tuple[Sequence[Sample], Tensor, Sequence[Sample]]:
    """:func:`divide` of each category, so that images of every one are held out."""
    learnt, indices, unseen, first = list[Sample](), list[Tensor](), list[Sample](), 0
    for part in dataset.parts:
        own = [sample for sample in dataset.train if sample.category == part.category]
        kept, numbers, others = divide(own, settings, least)
        learnt += kept
        indices.append(numbers + first)
        unseen += [*others, *(one for one in dataset.validation if one.category == part.category)]
        first += len(own)
    return learnt, torch.cat(indices), unseen


def _check_categories(config: RunConfig, learnt: Sequence[str], unseen: Sequence[str]) -> None:
    """Of several categories: whether they can be told apart, and each of them has good images to set its
    threshold by, or none has.

    Raises:
        InputError: not so.
    """
    if learnt and not config.uses_backbone:
        raise InputError(
            f"train: category: expected one, got {len(set(learnt))}: {config.title} uses no backbone, by "
            "whose features several are told apart"
        )
    missing = sorted(set(learnt) - set(unseen))
    if learnt and unseen and missing:
        raise InputError(
            f"train: no good image to set the threshold of {', '.join(missing)} by, as the others have; give "
            "--holdout, or a validation split to each"
        )


def _describe(dataset: Dataset | Sequence[Any], images: Tensor) -> dict[str, str | int | list[str]]:
    """Enough to notice that the data changed under a run, without paths, so that a data set may move."""
    found: dict[str, str | int | list[str]] = {"images": len(images), "pixels_sha256": pixels_sha256(images)}
    if isinstance(dataset, Dataset):
        found |= {"name": dataset.name, "category": dataset.category}
    if isinstance(dataset, JoinedDataset):
        found["categories"] = [part.category for part in dataset.parts]
    return found


def pixels_sha256(
    images: Tensor,  # uint8 [N,3,H,W]
) -> str:
    """SHA-256 of the pixels, in hexadecimal digits."""
    digest = hashlib.sha256()
    for some in pieces(images, 256):
        digest.update(some.contiguous().numpy().data)
    return digest.hexdigest()


def _finished_before(out: Path, config: RunConfig) -> bool:
    """Whether ``out`` holds a finished run of this configuration.

    Raises:
        InputError: it holds a run of another one, or something else.
    """
    if not is_claimed(out):
        return False
    there = read_config(out / files.CONFIG)
    if there.method != config.method:
        raise InputError(f"train: {out} holds a run of the method {there.method}, not {config.method}")
    differing = config.differences(there)
    if differing:
        raise InputError(f"train: {out} holds a run of another configuration: {'; '.join(differing)}")
    if is_finished(out):
        if read_metadata(out).parent is not None:
            raise InputError(f"train: {out} holds a run of thfr teach; expected another folder")
        _LOGGER.warning("train: %s holds a finished run of this configuration; nothing to do", out)
    return is_finished(out)
