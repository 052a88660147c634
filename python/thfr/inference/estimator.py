"""The detector with scikit-learn's habits: parameters in the constructor, ``fit``, ``predict``."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from thfr.data import gathered, load_dataset
from thfr.errors import InputError
from thfr.inference.scoring import score_items, unreadable
from thfr.io import images_of, list_images, storable
from thfr.methods import Detector
from thfr.methods.thfr.config import THFRConfig
from thfr.methods.thfr.detector import THFRDetector
from thfr.predictions.sources import Item
from thfr.runs.threshold import DEFAULT_RATE, Verdict
from thfr.training import auto_size, train

Images = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | np.ndarray
"""A folder of images (with its sub-folders), one image, a list of them, or an RGB array [N,H,W,3]: uint8, or
what deeper cameras give, uint16 or float32.
"""

_DEFAULTS = THFRConfig()


@dataclass(frozen=True)
class Prediction:
    """What :meth:`THFR.predict` found. Larger is more anomalous."""

    scores: np.ndarray
    """float32 [N]: the maximum of each image's map at input size."""
    maps: list[np.ndarray]
    """N times float32 [H_i,W_i], each at its image's own size."""
    paths: list[Path] | None
    """Where the images came from; None for an array."""
    verdicts: list[Verdict | None] | None = None
    """``good`` or ``bad`` by the detector's threshold; None if it has none. Of a run on several categories an
    image's is None where that which it was found to be of has no threshold.
    """
    failed: dict[Path, str] = field(default_factory=dict)
    """Image that cannot be read -> why; it is in none of the others."""
    notes: list[str] = field(default_factory=list)
    """How images differ from the training images, and files that were not looked at."""
    categories: list[str] | None = None
    """That the images were found to be of; None of a run on one category."""


@dataclass(kw_only=True, eq=False)
class THFR:
    """Finds anomalies in images after seeing good images only.

    The constructor keeps its arguments and does nothing else, so that ``get_params``, ``set_params`` and
    ``sklearn.base.clone`` work; wrong values are found by :meth:`fit`.

    Args:
        variant: ``thfr``, or without templates ``gl``, ``gbn``, ``lbn``.
        backbone: ``wide_resnet50_2``, ``resnet18`` or ``tf_efficientnet_lite0`` (which needs no download).
        weights: file of the backbone's weights; without it they come from an installed package or are
            fetched.
        size: of the network's input: the edge of a square, or (height, width), multiples of what
            the backbone asks for; None: its default; ``auto``: of the images' median aspect
            (:func:`thfr.training.auto_size`).
        letterbox: keep an image's aspect, with bars around it; else it is stretched.
        tiles: (rows, columns) of tiles that an image is seen in, each of that size.
        overlap: share of a tile's edge in common with the next one.
        roi: file of the region of interest (:func:`thfr.io.read_region`).
        epochs: passes over the training images; None: the method's own number, and more for a small set.
        batch_size: images a training step, and images predicted at once.
        learning_rate: of Adam.
        bottleneck_channels: width of the global bottleneck; None: the backbone's default.
        bank_ratio: share of the training images kept as templates.
        holdout: share of the images that is not learnt from, but sets the threshold of the verdicts; 0: none.
        false_alarm_rate: share of good products that may be called bad.
        seed: of weights, order and corruption.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: show progress bars on stderr.

    Attributes: ``detector_``, the :class:`thfr.methods.Detector` after ``fit`` or ``load``.
    """

    variant: str = _DEFAULTS.model.variant
    backbone: str = _DEFAULTS.model.backbone
    weights: str | os.PathLike[str] | None = None
    size: int | tuple[int, int] | str | None = None
    letterbox: bool = False
    tiles: tuple[int, int] = _DEFAULTS.model.tiles
    overlap: float = _DEFAULTS.model.overlap
    roi: str | os.PathLike[str] | None = None
    epochs: int | None = None
    batch_size: int = _DEFAULTS.training.batch_size
    learning_rate: float = _DEFAULTS.training.learning_rate
    bottleneck_channels: int | None = None
    bank_ratio: float = _DEFAULTS.model.bank_ratio
    holdout: float = 0.1
    false_alarm_rate: float = DEFAULT_RATE
    seed: int = 0
    device: str = "auto"
    progress: bool = False

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments. ``deep`` is scikit-learn's: none of them is an estimator."""
        return {parameter.name: getattr(self, parameter.name) for parameter in fields(self)}

    def set_params(self, **params: Any) -> THFR:
        """Change arguments of the constructor; they count from the next :meth:`fit` on."""
        known = self.get_params()
        unknown = ", ".join(sorted(params.keys() - known.keys()))
        if unknown:
            raise InputError(f"THFR.set_params: no parameter {unknown}; there are {', '.join(known)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: Images, y: object = None, *, out: str | os.PathLike[str] | None = None) -> THFR:
        """Learn from good images.

        Args:
            X: see :data:`Images`. Every image must be of a good product.
            y: ignored; scikit-learn's pipelines pass it.
            out: run folder to write, as ``thfr train`` does; an unfinished one is resumed. Without it
                a temporary one is used, and only :meth:`save` keeps anything.

        Raises:
            InputError: images, parameters or weights that cannot be used.
        """
        config = self._config(None if self.size == "auto" else self.size)
        with tempfile.TemporaryDirectory(prefix="thfr-") as scratch:
            run = Path(scratch) / "run" if out is None else Path(out)
            data = _training_data(X, Path(scratch) / "images")
            if self.size == "auto":
                spec = config.model.spec
                size = auto_size(
                    data, tiles=self.tiles, overlap=self.overlap, area=spec.size**2, multiple=spec.multiple
                )
                config = self._config(size)
            weights = None if self.weights is None else Path(self.weights)
            detector = train(
                config,
                data,
                run,
                weights=weights,
                device=self.device,
                progress=self.progress,
                false_alarm_rate=self.false_alarm_rate,
                roi=self.roi,
            )
        self.detector_ = detector
        return self

    def _config(self, size: Any) -> THFRConfig:
        epochs = {} if self.epochs is None else {"epochs": self.epochs, "min_steps": 0}
        return THFRConfig.from_values(
            {
                "model": {
                    "variant": self.variant,
                    "backbone": self.backbone,
                    "size": size,
                    "fit": "letterbox" if self.letterbox else "stretch",
                    "tiles": self.tiles,
                    "overlap": self.overlap,
                    "bottleneck_channels": self.bottleneck_channels,
                    "bank_ratio": self.bank_ratio,
                },
                "training": {
                    "batch_size": self.batch_size,
                    "learning_rate": self.learning_rate,
                    "holdout": self.holdout,
                    "seed": self.seed,
                    **epochs,
                },
            },
            "parameters of THFR",
        )

    def predict(self, X: Images) -> Prediction:
        """Anomaly scores and maps of images, see :data:`Images`.

        A file that cannot be read does not stop the others: it is in ``failed``, and a warning names it.

        Raises:
            InputError: not fitted yet, or no image can be read.
        """
        detector = self._fitted("predict")
        failed: dict[str, str] = {}
        notes: list[str] = []
        if isinstance(X, np.ndarray):
            _check_array("THFR.predict", X)
            found = detector.score(list(X), self.batch_size)
            paths, maps, scores, categories = None, found.maps, found.scores, found.categories
        else:
            listed, notes = _listed("THFR.predict", X)
            items = [Item(path, str(path), "", "") for path in listed]
            odd: list[tuple[str, str]] = []
            scored = []
            for one in score_items(detector, items, self.batch_size, failed):
                scored.append((one.item.path, one.anomaly_map, one.score, one.category))
                odd += [(storable(one.item.path.name), note) for note in one.notes]
            if not scored:
                raise InputError(unreadable("THFR.predict", failed))
            if failed:
                warnings.warn(unreadable("THFR.predict", failed), stacklevel=2)
            notes = [*gathered(odd), *notes]
            for note in notes:
                warnings.warn(f"THFR.predict: {note}", stacklevel=2)
            paths, maps = [one[0] for one in scored], [one[1] for one in scored]
            scores = np.array([one[2] for one in scored], dtype=np.float32)
            categories = None if detector.categories is None else [str(one[3]) for one in scored]
        of: Sequence[str | None] = categories or [None] * len(scores)
        limits = [detector.threshold_of(one) for one in of]
        verdicts = None
        if detector.threshold is not None or detector.thresholds:
            judged = zip(limits, scores.tolist(), strict=True)
            verdicts = [None if limit is None else limit.verdict(score) for limit, score in judged]
        reasons = {Path(name): reason for name, reason in failed.items()}
        return Prediction(scores, maps, paths, verdicts, reasons, notes, categories)

    def score_samples(self, X: Images) -> np.ndarray:
        """The ``scores`` of :meth:`predict`, float32 [N]: larger is more anomalous.

        Mind the sign when mixing with scikit-learn's outlier detectors, whose ``score_samples`` falls with
        abnormality.

        Raises:
            InputError: not fitted yet, or an image cannot be read: there would be no score for it.
        """
        found = self.predict(X)
        if found.failed:
            raise InputError(unreadable("THFR.score_samples", {str(k): v for k, v in found.failed.items()}))
        return found.scores

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the detector into a folder that :meth:`load` and ``thfr predict FOLDER ...`` read."""
        self._fitted("save").save(Path(folder))

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str = "auto") -> THFR:
        """An estimator from the folder of :meth:`save`, of ``fit(..., out=folder)`` or of ``thfr train``.

        Its parameters are those of the run, but for ``weights`` and ``roi`` (the folder holds them) and a
        number of epochs that came with a minimum of steps (None).
        """
        detector = Detector.load(Path(folder), device)
        if not isinstance(detector, THFRDetector):
            raise InputError(
                f"THFR.load: {folder} is a run of {detector.config.label}; load it with "
                "thfr.methods.Detector.load"
            )
        model, training, threshold = detector.config.model, detector.config.training, detector.threshold
        estimator = cls(
            variant=model.variant,
            backbone=model.backbone,
            size=model.size[0] if model.size[0] == model.size[1] else model.size,
            letterbox=model.fit == "letterbox",
            tiles=model.tiles,
            overlap=model.overlap,
            epochs=training.epochs if training.min_steps == 0 else None,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            bottleneck_channels=model.bottleneck_channels,
            bank_ratio=model.bank_ratio,
            holdout=training.holdout,
            false_alarm_rate=DEFAULT_RATE if threshold is None else threshold.wanted_rate,
            seed=training.seed,
            device=device,
        )
        estimator.detector_ = detector
        return estimator

    def _fitted(self, method: str) -> Detector:
        if not hasattr(self, "detector_"):
            raise InputError(
                f"THFR.{method}: not fitted yet: call fit(folder of good images), or THFR.load(folder)"
            )
        return self.detector_


def _training_data(X: Images, scratch: Path) -> Any:
    """What :func:`thfr.training.train` takes: an array goes through files, which lose nothing."""
    if isinstance(X, np.ndarray):
        _check_array("THFR.fit", X)
        scratch.mkdir()
        for index, image in enumerate(X):
            if image.dtype == np.uint8:
                Image.fromarray(image).save(scratch / f"{index:06d}.png", compress_level=1)
            else:
                tifffile.imwrite(scratch / f"{index:06d}.tiff", image, photometric="rgb", metadata=None)
        return list_images(scratch)
    if isinstance(X, (str, os.PathLike)):
        return load_dataset("folder", X)
    return _listed("THFR.fit", X)[0]


def _listed(
    caller: str, X: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
) -> tuple[list[Path], list[str]]:
    """The images, and notes on files that are not looked at."""
    if not isinstance(X, (str, os.PathLike)):
        wrong = [type(item).__name__ for item in X if not isinstance(item, (str, os.PathLike))]
        if wrong:
            raise InputError(f"{caller}: X must be a folder, a list of paths or an array, got {wrong[0]}")
    notes: list[str] = []
    return images_of(caller, X, notes), notes


def _check_array(caller: str, X: np.ndarray) -> None:
    if isinstance(X, np.ma.MaskedArray):
        raise InputError(f"{caller}: X must not be a masked array, whose mask would be lost: fill it first")
    if X.dtype not in (np.uint8, np.uint16, np.float32) or X.ndim != 4 or X.shape[3] != 3 or 0 in X.shape:
        raise InputError(
            f"{caller}: X must be an RGB array [N,H,W,3] of uint8, uint16 or float32, got {X.dtype} "
            f"{list(X.shape)}"
        )
