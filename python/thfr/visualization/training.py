"""Training the visualization network of a run, and the run folder's files of it.

``visualization.json``: its configuration, what it belongs to, and, once it is finished, how well it
reconstructs; ``visualization.safetensors``: its weights; ``visualization-checkpoint.safetensors`` while it is
being trained.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from thfr.data import Dataset, load_images
from thfr.errors import InputError
from thfr.io import atomic_write_json
from thfr.methods import Detector
from thfr.methods.common.batches import batch_rows
from thfr.methods.common.checkpoint import load_checkpoint, save_checkpoint
from thfr.methods.common.features import FeatureStore, compute_features
from thfr.methods.common.loop import rate_at
from thfr.methods.common.precision import resolve_precision
from thfr.runs import files
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
        InputError: a field is out of range, ``run`` holds a network of another configuration, the training
            images are not those of the run, or a file is damaged.
    """
    config, facts = _claim(run, detector, asked)
    if "error" in facts:
        return load_visualizer(run, detector)
    learnt, _, _ = divide(dataset, detector.config.training)
    images = load_images(learnt, (detector.size, detector.size), progress=progress)
    _check_images(run, detector, dataset, images)
    if config.test_images:
        test = load_images(dataset.test, (detector.size, detector.size), progress=progress)
        images = torch.cat([images, test])
    trainer = _Trainer(run, detector, config, images, cache_budget, progress)
    try:
        facts |= trainer.run(checkpoint_seconds)
    finally:
        trainer.store.close()
    visualizer = Visualizer(trainer.network.eval(), detector.device, facts)
    facts["error"] |= _test_errors(visualizer, detector, dataset, progress)
    save_tensors(trainer.network.state_dict(), run / files.VISUALIZER)
    atomic_write_json(run / files.VISUALIZER_METADATA, facts)
    (run / files.VISUALIZER_CHECKPOINT).unlink(missing_ok=True)
    return visualizer


def has_visualizer(run: Path) -> bool:
    """Whether the run folder holds a finished visualization network."""
    return (run / files.VISUALIZER_METADATA).is_file() and "error" in _read_facts(run)


def load_visualizer(run: Path, detector: Detector) -> Visualizer:
    """The finished visualization network of a run folder.

    Raises:
        InputError: there is none, it is damaged, or it belongs to other features than the detector's.
    """
    if not has_visualizer(run):
        raise InputError(f"visualize: {run} holds no visualization network; thfr visualize trains one")
    facts = _read_facts(run)
    _check_belongs(run, facts, detector)
    network = VisualizationNetwork(detector.extractor.channels)
    try:
        load_tensors(network, run / files.VISUALIZER)
    except InputError as error:
        raise InputError(f"visualize: {str(error).removeprefix('Detector.load: ')}") from error
    return Visualizer(network.to(detector.device).eval(), detector.device, facts)


def features_of(detector: Detector) -> dict[str, Any]:
    """What fixes a detector's features and the images it was trained on; JSON values."""
    model = detector.config.model
    return {
        "backbone": model.backbone,
        "size": model.size,
        "weights_digest": detector.config.weights_digest,
        "dataset": dict(detector.config.dataset),
    }


@dataclass
class _Trainer:
    """One training, from images in memory to a network."""

    folder: Path
    detector: Detector
    config: VisualizationConfig
    images: Tensor  # uint8 [N,3,S,S]
    cache_budget: int
    progress: bool

    def __post_init__(self) -> None:
        held_out = torch.arange(len(self.images)) % _HELD_OUT == min(_HELD_OUT, len(self.images)) - 1
        self.held_out = self.images[held_out]
        kept = self.images[~held_out]
        self.images = torch.cat([kept, scrambled(kept, self.config.seed)])
        self.device = self.detector.device
        self.store: FeatureStore = compute_features(
            self.detector.extractor, self.images, self.device, self.folder, self.cache_budget,
            progress=self.progress,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            network = VisualizationNetwork(self.detector.extractor.channels)
        self.network = network.to(self.device).train()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate, fused=True)
        self.bf16 = resolve_precision("auto", self.device) == "bf16"

    def run(self, checkpoint_seconds: float) -> dict[str, Any]:
        """Train, and say how well the network reconstructs images that it has not seen."""
        path, total = self.folder / files.VISUALIZER_CHECKPOINT, self.config.steps
        step, spent = self._resume(path)
        started = saved = time.monotonic()
        with tqdm(
            total=total, initial=step, desc="visualization", unit="step", disable=not self.progress
        ) as bar:
            while step < total:
                loss = self._step(step)
                step += 1
                bar.update()
                if step % 10 == 0 or step == total:
                    bar.set_postfix(mse=f"{float(loss):.5f}")
                now = time.monotonic()
                if step < total and now - saved >= checkpoint_seconds:
                    facts = {"seconds": spent + now - started}
                    save_checkpoint(path, self.network, self.optimizer, step, facts)
                    saved = now
        self.network.eval()
        return {
            "trained_on": {
                "images": len(self.images) // 2,
                "test_images": self.config.test_images,
                "held_out": len(self.held_out),
            },
            "device": self.device.type,
            "train_seconds": round(spent + time.monotonic() - started, 3),
            "error": {"held_out": self._held_out_error()},
        }

    def _step(self, step: int) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate_at(step, self.config.steps)
        rows = batch_rows(len(self.images), self.config.batch_size, self.config.seed, step)
        wanted = self.images[rows].to(self.device).float().div_(255)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            got = self.network(self.store.gather(rows, self.device))
        loss = F.mse_loss(got, wanted)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _held_out_error(self) -> dict[str, float | int]:
        mean_image = self.images[: len(self.images) // 2].double().mean(0) / 255
        visualizer = Visualizer(self.network, self.device, {})
        errors = ErrorSum()
        from_mean = 0.0
        for batch in self.held_out.split(_BATCH):
            errors.add(batch, visualizer.reconstructed(self.detector.features(batch)))
            from_mean += float((batch.double() / 255 - mean_image).square().mean((1, 2, 3)).sum())
        return {**errors.as_dict(), "mse_of_mean_image": from_mean / len(self.held_out)}

    def _resume(self, path: Path) -> tuple[int, float]:
        if not path.is_file():
            return 0, 0.0
        try:
            step, facts = load_checkpoint(path, self.network, self.optimizer)
        except InputError as error:
            raise InputError(f"visualize: {str(error).removeprefix('train: ')}") from error
        return step, facts["seconds"]


def _test_errors(
    visualizer: Visualizer, detector: Detector, dataset: Dataset, progress: bool
) -> dict[str, Any]:
    """The reconstruction error of the test images by kind; nobody's where they were trained on."""
    if visualizer.metadata["trained_on"]["test_images"]:
        return {}
    sums: dict[str, ErrorSum] = {}
    size = (detector.size, detector.size)
    for start in tqdm(range(0, len(dataset.test), _BATCH), "test images", disable=not progress, leave=False):
        samples = dataset.test[start : start + _BATCH]
        batch = load_images(samples, size)
        pictures = visualizer.reconstructed(detector.features(batch))
        for sample, image, picture in zip(samples, batch.split(1), pictures.split(1), strict=True):
            sums.setdefault(sample.kind, ErrorSum()).add(image, picture)
    return {"test": {kind: errors.as_dict() for kind, errors in sorted(sums.items())}} if sums else {}


def _claim(
    run: Path, detector: Detector, asked: Mapping[str, Any]
) -> tuple[VisualizationConfig, dict[str, Any]]:
    """Make the run's visualization network one of this configuration, or refuse."""
    facts = _read_facts(run) if (run / files.VISUALIZER_METADATA).is_file() else {}
    there = facts.get("config", {})
    try:
        config = VisualizationConfig.model_validate({**there, **asked})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"visualize: {problems}") from error
    if facts:
        _check_belongs(run, facts, detector)
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
        return config, facts
    facts = {"config": config.model_dump(), "features": features_of(detector)}
    (run / files.VISUALIZER_CHECKPOINT).unlink(missing_ok=True)  # of a network that was given up
    atomic_write_json(run / files.VISUALIZER_METADATA, facts)
    return config, facts


def _check_belongs(run: Path, facts: Mapping[str, Any], detector: Detector) -> None:
    mine = features_of(detector)
    differing = [name for name in mine if facts.get("features", {}).get(name) != mine[name]]
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


def _read_facts(run: Path) -> dict[str, Any]:
    path = run / files.VISUALIZER_METADATA
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or not isinstance(facts.get("config"), dict):
            raise ValueError("no configuration in it")
    except (OSError, ValueError) as error:
        raise InputError(f"visualize: {path} is damaged ({error}); remove it to train a new one") from error
    return facts
