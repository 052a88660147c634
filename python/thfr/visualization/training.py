"""Training the visualization network of a run, and the run folder's files of it.

``visualization.json``: its configuration, what it belongs to, and, once it is finished, how well it
reconstructs; ``visualization.safetensors``: its weights; ``visualization-checkpoint.safetensors`` while it is
being trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from thfr.data import Dataset, load_images
from thfr.errors import InputError, located
from thfr.io import atomic_write_json
from thfr.io.sizes import plain
from thfr.methods import Detector, FitContext
from thfr.methods.common.batches import batch_indices
from thfr.methods.common.optimisation import Optimiser, warm_up_and_decay
from thfr.methods.common.tiles import tiles_of
from thfr.runs import files
from thfr.runs.json_file import read_object
from thfr.runs.tensors import load_tensors, save_tensors
from thfr.training.trainer import divide, pixels_sha256
from thfr.visualization.network import VisualizationNetwork
from thfr.visualization.reconstruction import ErrorSum, Visualizer
from thfr.visualization.scrambled import scrambled

_HELD_OUT = 10  # every tenth image is not trained on
_BATCH = 8


class VisualizationConfig(BaseModel):
    """How a visualization network is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=240, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    seed: int = Field(default=0, ge=0)
    test_images: bool = False
    """Also train on the test images, good and anomalous, as the paper does."""


def train_visualizer(
    run: Path,
    detector: Detector,
    dataset: Dataset,
    asked: Mapping[str, Any],
    *,
    progress: bool = False,
    checkpoint_seconds: float = 60.0,
    cache_budget: int = 1 << 30,
) -> Visualizer:
    """The run's visualization network (supplement, section 1.1): trained and stored, or read if it is there.

    It learns, by the mean squared error of RGB in 0..1, to reconstruct images from the extractor's features:
    the training images, each once as it is and once scrambled (:func:`.scrambled.scrambled`), so that it
    learns to show what is there and not what is usual. It serves pictures only: no score, map or threshold
    depends on it. An interrupted training is resumed from its checkpoint and ends as an unbroken one.

    Args:
        run: the detector's folder.
        dataset: what the detector was trained on.
        asked: fields of :class:`VisualizationConfig`; what is not asked for is as in the network that is
            there, or the default.
        checkpoint_seconds: time between checkpoints (0: every step).
        cache_budget: bytes of features kept in memory; more go to a mapped file in ``run``.

    Raises:
        InputError: a field is out of range, ``run`` holds a network of another
            configuration, the training images are not those of the run, or a file is damaged.
    """
    config, metadata = _claim(run, detector, asked)
    if "error" in metadata:
        return load_visualizer(run, detector)
    learnt, _, _ = divide(dataset, detector.config.training)
    images = load_images(learnt, detector.size, detector.inputs.options, progress=progress)
    _check_images(run, detector, dataset, images)
    if config.test_images:
        test = load_images(dataset.test, detector.size, detector.inputs.options, progress=progress)
        images = torch.cat([images, test])
    context = FitContext(
        images,
        torch.arange(len(images)),
        run,
        detector.device,
        progress,
        checkpoint_seconds,
        cache_budget,
    )
    trainer = _Trainer(context, detector, config)
    try:
        metadata |= trainer.run()
    finally:
        trainer.store.close()
    visualizer = Visualizer(trainer.network.eval(), detector.device, metadata)
    metadata["error"] |= _test_errors(visualizer, detector, dataset, progress)
    save_tensors(trainer.network.state_dict(), run / files.VISUALIZER)
    atomic_write_json(run / files.VISUALIZER_METADATA, metadata)
    (run / files.VISUALIZER_CHECKPOINT).unlink(missing_ok=True)
    return visualizer


def has_visualizer(run: Path) -> bool:
    """Whether the run folder holds a finished visualization network."""
    return (run / files.VISUALIZER_METADATA).is_file() and "error" in _read_metadata(run)


def load_visualizer(run: Path, detector: Detector) -> Visualizer:
    """The finished visualization network of a run folder.

    Raises:
        InputError: there is none, it is damaged, or it belongs to other features than the detector's.
    """
    if not has_visualizer(run):
        raise InputError(f"visualize: {run} holds no visualization network; thfr visualize trains one")
    metadata = _read_metadata(run)
    _check_belongs(run, metadata, detector)
    network = VisualizationNetwork(detector.extractor.channels, detector.extractor.strides)
    try:
        load_tensors(network, run / files.VISUALIZER)
    except InputError as error:
        raise InputError(f"visualize: {str(error).removeprefix('Detector.load: ')}") from error
    return Visualizer(network.to(detector.device).eval(), detector.device, metadata)


def features_of(detector: Detector) -> dict[str, Any]:
    """What fixes a detector's features and the images it was trained on; JSON values."""
    model = detector.config.model
    tiles = {"tiles": list(model.tiles), "overlap": model.overlap} if model.tile_count > 1 else {}
    return {
        "backbone": model.backbone,
        "size": plain(model.size),
        **tiles,
        "weights_digest": detector.config.weights_digest,
        "dataset": dict(detector.config.dataset),
    }


class _Trainer:
    """One training, from images in memory, whole ones, to a network; of tiles it sees one at a time."""

    def __init__(self, context: FitContext, detector: Detector, config: VisualizationConfig) -> None:
        self.context, self.detector, self.config = context, detector, config
        self.device = context.device
        images = context.images
        held_out = torch.arange(len(images)) % _HELD_OUT == min(_HELD_OUT, len(images)) - 1
        self.held_out, self.kept = images[held_out], images[~held_out]
        tiles = tiles_of(self.kept, detector.config.model)
        self.images = torch.cat([tiles, scrambled(tiles, config.seed)])
        self.store = context.compute_features(detector.extractor, self.images)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = VisualizationNetwork(detector.extractor.channels, detector.extractor.strides)
        self.network = network.to(self.device)
        self.optimiser = Optimiser(
            self.network, self.device, config.steps, config.learning_rate, schedule=warm_up_and_decay
        )

    def run(self) -> dict[str, Any]:
        """Train, and say how well the network reconstructs images that it has not seen."""
        seconds = self.optimiser.run(
            self._losses,
            self.context,
            checkpoint=files.VISUALIZER_CHECKPOINT,
            logged=False,
            command="visualize",
        )
        self.network.eval()
        return {
            "trained_on": {
                "images": len(self.kept),
                "test_images": self.config.test_images,
                "held_out": len(self.held_out),
            },
            "device": self.device.type,
            "train_seconds": round(seconds, 3),
            "error": {"held_out": self._held_out_error()},
        }

    def _losses(self, step: int) -> dict[str, Tensor]:
        chosen = batch_indices(len(self.images), self.config.batch_size, self.config.seed, step)
        wanted = self.images[chosen].to(self.device).float().div_(255)
        with self.optimiser.computing():
            got = self.network(self.store.gather(chosen, self.device))
        return {"mse": F.mse_loss(got, wanted)}

    def _held_out_error(self) -> dict[str, float | int]:
        mean_image = self.kept.double().mean(0) / 255
        visualizer = Visualizer(self.network, self.device, {})
        errors = ErrorSum()
        from_mean = 0.0
        for batch in self.held_out.split(_BATCH):
            errors.add(batch, visualizer.drawn(self.detector, batch))
            from_mean += float((batch.double() / 255 - mean_image).square().mean((1, 2, 3)).sum())
        return {**errors.as_dict(), "mse_of_mean_image": from_mean / len(self.held_out)}


def _test_errors(
    visualizer: Visualizer, detector: Detector, dataset: Dataset, progress: bool
) -> dict[str, Any]:
    """The reconstruction error of the test images by kind; nobody's where they were trained on."""
    if visualizer.metadata["trained_on"]["test_images"]:
        return {}
    sums: dict[str, ErrorSum] = {}
    size = detector.size
    for start in tqdm(range(0, len(dataset.test), _BATCH), "test images", disable=not progress, leave=False):
        samples = dataset.test[start : start + _BATCH]
        batch = load_images(samples, size, detector.inputs.options)
        pictures = visualizer.drawn(detector, batch)
        for sample, image, picture in zip(samples, batch.split(1), pictures.split(1), strict=True):
            sums.setdefault(sample.kind, ErrorSum()).add(image, picture)
    return {"test": {kind: errors.as_dict() for kind, errors in sorted(sums.items())}} if sums else {}


def _claim(
    run: Path, detector: Detector, asked: Mapping[str, Any]
) -> tuple[VisualizationConfig, dict[str, Any]]:
    """Make the run's visualization network one of this configuration, or refuse."""
    metadata = _read_metadata(run) if (run / files.VISUALIZER_METADATA).is_file() else {}
    there = metadata.get("config", {})
    try:
        config = VisualizationConfig.model_validate({**there, **asked})
    except ValidationError as error:
        raise InputError(f"visualize: {located(error)}") from error
    if metadata:
        _check_belongs(run, metadata, detector)
        differing = [
            f"{name} ({getattr(config, name)!r} here, {value!r} there)"
            for name, value in there.items()
            if getattr(config, name) != value
        ]
        if differing:
            raise InputError(
                f"visualize: {run} holds a visualization network of another configuration: "
                f"{', '.join(differing)}; remove {run / files.VISUALIZER_METADATA} to train a new one"
            )
        return config, metadata
    metadata = {"config": config.model_dump(), "features": features_of(detector)}
    (run / files.VISUALIZER_CHECKPOINT).unlink(missing_ok=True)  # of a network that was given up
    atomic_write_json(run / files.VISUALIZER_METADATA, metadata)
    return config, metadata


def _check_belongs(run: Path, metadata: Mapping[str, Any], detector: Detector) -> None:
    mine, there = features_of(detector), metadata.get("features", {})
    differing = [name for name in {**mine, **there} if there.get(name) != mine.get(name)]
    if differing:
        raise InputError(
            f"visualize: {run / files.VISUALIZER_METADATA} belongs to other features than those of the run: "
            f"{', '.join(differing)} differ; remove it to train a new one"
        )


def _check_images(run: Path, detector: Detector, dataset: Dataset, images: Tensor) -> None:
    expected = detector.config.dataset.get("pixels_sha256")
    if pixels_sha256(images) != expected:
        raise InputError(
            f"visualize: the {len(images)} training images in {dataset.folder} are not those that {run} was "
            f"trained on ({detector.config.dataset.get('images')} images)"
        )


def _read_metadata(run: Path) -> dict[str, Any]:
    path = run / files.VISUALIZER_METADATA
    metadata = read_object(path, "visualize", "remove it to train a new one")
    if not isinstance(metadata.get("config"), dict):
        raise InputError(f"visualize: {path} holds no configuration; remove it to train a new one")
    return metadata
