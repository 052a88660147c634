"""Training: from a list of good images to a run folder that holds a detector.

A run folder: ``config.yaml``; ``log.jsonl``, one JSON object a line; ``checkpoint.safetensors`` while
training goes on; ``network``, ``backbone`` and ``bank.safetensors`` and, last of all, ``run.json`` when done.
"""

from __future__ import annotations

import hashlib
import json
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
from tqdm import tqdm

import thfr_ext
from thfr.backbones import FeatureExtractor, create_backbone
from thfr.config import RunConfig, TrainingConfig
from thfr.data import Dataset, Sample, load_images
from thfr.errors import InputError
from thfr.io import atomic_write_json, atomic_write_text
from thfr.models import Detector, TemplateBank, THFRNetwork, resolve_device
from thfr.models.detector import CONFIG_FILE
from thfr.models.threshold import DEFAULT_RATE
from thfr.training.augmentation import augmented
from thfr.training.batches import batch_rows, corrupted, held_out
from thfr.training.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from thfr.training.features import compute_features

RUN_FILE = "run.json"
LOG_FILE = "log.jsonl"
_LOGGER = logging.getLogger(__name__)


def is_finished(out: Path) -> bool:
    """True if the run folder holds a finished training."""
    return (Path(out) / RUN_FILE).is_file()


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
) -> Detector:
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
        update={"weights_digest": extractor.weights_digest, "dataset": _describe(dataset, images)}
    )
    _claim(out, config)
    if is_finished(out):
        _LOGGER.warning("train: %s holds a finished run of this configuration; nothing to do", out)
        return Detector.load(out, device)
    trainer = _Trainer(
        config, extractor.to(where), images, numbers, out, where, progress, checkpoint_seconds, cache_budget
    )
    return trainer.run(good, false_alarm_rate)


class _Trainer:
    """One run, from images in memory to the written folder."""

    def __init__(
        self,
        config: RunConfig,
        extractor: FeatureExtractor,
        images: Tensor,  # uint8 [N,3,S,S]
        numbers: Tensor,  # int64 [N], among the images given to train()
        out: Path,
        device: torch.device,
        progress: bool,
        checkpoint_seconds: float,
        cache_budget: int,
    ) -> None:
        self.config, self.extractor, self.out, self.device = config, extractor, out, device
        self.progress, self.checkpoint_seconds = progress, checkpoint_seconds
        self.started = time.monotonic()
        self.precision = resolve_precision(config.training, device)
        self.images, self.numbers = len(images), numbers
        copies = augmented(images, config.training.augmentation, config.training.seed)
        self.store = compute_features(
            extractor, torch.cat([images, *copies]), device, out, cache_budget, progress=progress
        )
        self.total = config.training.steps(self.images)
        self.network = self._make_network()
        self.optimizer = torch.optim.Adam(
            self.network.parameters(),
            lr=config.training.learning_rate,
            betas=config.training.betas,
            fused=True,
        )
        self.bank, self.nearest = self._make_bank()

    def run(self, good: Tensor | None, false_alarm_rate: float) -> Detector:
        step, facts = self._resume()
        spent = facts.get("seconds", 0.0)
        saved = time.monotonic()
        self.network.train()
        with tqdm(
            total=self.total, initial=step, desc="train", unit="step", disable=not self.progress
        ) as bar:
            while step < self.total:
                losses = self._step(step)
                step += 1
                bar.update()
                now = time.monotonic()
                if step % 10 == 0 or step == self.total:
                    loss = float(sum(losses))
                    if not loss < float("inf"):
                        raise RuntimeError(
                            f"train: the loss is {loss} at step {step}; try a lower learning rate"
                        )
                    bar.set_postfix(loss=f"{loss:.4f}")
                    self._log(
                        step=step, loss=loss, levels=losses, seconds=round(spent + now - self.started, 3)
                    )
                if step < self.total and now - saved >= self.checkpoint_seconds:
                    seconds = spent + now - self.started
                    save_checkpoint(
                        self.out / CHECKPOINT_FILE, self.network, self.optimizer, step, {"seconds": seconds}
                    )
                    saved = time.monotonic()
        return self._finish(spent + time.monotonic() - self.started, good, false_alarm_rate)

    def _step(self, step: int) -> list[float]:
        settings = self.config.training
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate_at(step, self.total)
        rows = batch_rows(len(self.store), settings.batch_size, settings.seed, step)
        target = self.store.gather(rows, self.device)
        given = target
        if settings.corruption:
            given = corrupted(target, self.store.levels, settings.seed, step, settings.corruption_cells)
        templates = None
        if self.bank is not None:
            assert self.nearest is not None
            templates = [level.to(self.device) for level in self.bank.gather(self.nearest[rows])]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            restored = self.network(given, templates)
        losses = [level_loss(*pair, settings.loss) for pair in zip(target, restored, strict=True)]
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()
        self.optimizer.step()
        return [float(loss.detach()) for loss in losses]

    def _make_network(self) -> THFRNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.training.seed)
            network = THFRNetwork(self.config.model, self.extractor.channels)
        network.set_statistics(*self.store.statistics())
        return network.to(self.device)

    def _make_bank(self) -> tuple[TemplateBank | None, Tensor | None]:
        """The bank, and for each training image the place [1] of its nearest template, never its own."""
        model = self.config.model
        if not model.uses_templates:
            return None, None
        originals = [level[: self.images] for level in self.store.levels]
        bank = TemplateBank.build(originals, self.numbers, model.key_cells)
        bank = bank.subsample(model.bank_ratio, model.bank_method, self.config.training.seed)
        if len(bank) < 2:
            raise InputError(
                f"train: bank_ratio {model.bank_ratio} of {self.images} images leaves {len(bank)} "
                "template(s), needs at least 2"
            )
        nearest = []
        for rows in torch.arange(len(self.store)).split(64):
            features, own = [level[rows] for level in self.store.levels], self.numbers[rows % self.images]
            nearest.append(bank.nearest(features, own))
        return bank, torch.cat(nearest)

    def _resume(self) -> tuple[int, dict[str, float]]:
        path = self.out / CHECKPOINT_FILE
        if not path.is_file():
            return 0, {}
        step, facts = load_checkpoint(path, self.network, self.optimizer)
        if not 0 < step <= self.total:
            raise InputError(f"train: the checkpoint {path} is at step {step}, this run has {self.total}")
        self._log(resumed_at=step)
        return step, facts

    def _finish(self, seconds: float, good: Tensor | None, false_alarm_rate: float) -> Detector:
        detector = Detector(self.config, self.extractor, self.network, self.bank, self.device)
        if good is not None:
            detector.calibrate(good, false_alarm_rate, "good images not learnt from")
        detector.save(self.out)
        facts = {
            "steps": self.total,
            "images": self.images,
            "templates": 0 if self.bank is None else len(self.bank),
            "calibration_images": 0 if good is None else len(good),
            "train_seconds": round(seconds, 3),
            "peak_memory_bytes": peak_memory(),
            "precision": self.precision,
            "device": self.device.type,
            "weights_digest": self.extractor.weights_digest,
            "features_mapped": self.store.mapped,
        }
        atomic_write_json(self.out / RUN_FILE, facts)
        self._log(finished=True, **facts)
        (self.out / CHECKPOINT_FILE).unlink(missing_ok=True)
        if self.store.mapped:
            detector = Detector.load(
                self.out, self.device.type
            )  # the bank must not point into the removed file
        self.store.close()
        return detector

    def _log(self, **values: Any) -> None:
        with (self.out / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def level_loss(
    wanted: Tensor,  # [B,C,H,W]
    restored: Tensor,  # [B,C,H,W]
    kind: str,
) -> Tensor:
    """The loss of one level, see :attr:`thfr.config.TrainingConfig.loss`."""
    if kind == "flattened":
        wanted, restored = (x.flatten(1)[:, :, None, None] for x in (wanted, restored))
    return thfr_ext.cosine_distance(wanted, restored).mean()


def rate_at(step: int, total: int) -> float:
    """Factor on the learning rate: 20 steps of warm-up, then constant, linear decay over the last 30 %."""
    left = 1 - step / total
    return min(1.0, (step + 1) / 20) * min(1.0, left / 0.3 + 0.02)


def resolve_precision(settings: TrainingConfig, device: torch.device) -> str:
    """``auto`` is bf16 where the processor or GPU has matrix units for it, else fp32."""
    if settings.precision != "auto":
        return settings.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_amx_tile_supported() else "fp32"


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _make_extractor(config: RunConfig, weights: Path | str | None) -> FeatureExtractor:
    model = config.model
    if weights is not None and not model.pretrained:
        raise InputError("train: weights were given together with pretrained=False")
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
    path = out / CONFIG_FILE
    if path.is_file():
        differing = config.differences(RunConfig.read(path))
        if differing:
            raise InputError(f"train: {out} holds a run of another configuration: {'; '.join(differing)}")
        return
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"train: {out} is not empty and not a run folder (no {CONFIG_FILE})")
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, config.to_yaml())
