"""What every method is: fitted on good images, it gives anomaly maps and image scores, and can be stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

from thfr.backbones import FeatureExtractor, create_backbone
from thfr.config import RunConfig
from thfr.errors import InputError
from thfr.io import atomic_write_text, resized
from thfr.methods.registry import detector_class, read_config
from thfr.runs import files
from thfr.runs.tensors import load_tensors, save_tensors
from thfr.runs.threshold import Threshold

Precision = Literal["fp32", "fp16", "bf16"]
PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


_Result = TypeVar("_Result")
ConfigT = TypeVar("ConfigT", bound=RunConfig)
DetectorT = TypeVar("DetectorT", bound="Detector[Any]")


@dataclass(frozen=True)
class Scores:
    """What :meth:`Detector.score` gives: anomaly maps at each image's own size, and one score an image."""

    maps: list[np.ndarray]  # float32 [H_i,W_i]
    scores: np.ndarray  # float32 [B]


@dataclass(frozen=True)
class FitContext:
    """What a method is fitted on, where, and how."""

    images: Tensor
    """uint8 [N,3,S,S], RGB, good, at input size."""
    indices: Tensor
    """int64 [N]: which of the images given to :func:`thfr.training.train` they are."""
    out: Path
    """The run folder, for log, checkpoints and mapped files."""
    device: torch.device
    progress: bool = False
    checkpoint_seconds: float = 60.0
    cache_budget: int = 4 << 30
    """Bytes of features to keep in memory; more go to a mapped file in ``out``."""


def resolve_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in {"cpu", "cuda"}:
        raise InputError(f"device: expected auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda was asked for, but torch sees no CUDA device")
    return torch.device(device)


class Detector(ABC, Generic[ConfigT]):
    """A fitted method; made by :func:`thfr.training.train` or :meth:`load`.

    Attributes: ``config``; ``extractor``, the frozen backbone; ``threshold``, None where no good images were
    kept for it; ``device``; ``precision``: what
    convolutions and matrix products compute in; in fp16 (CUDA only) and bf16 the features are channels-last.
    """

    RESTORES: ClassVar[bool] = False
    """Whether it has :meth:`restorations`."""

    def __init__(
        self,
        config: ConfigT,
        extractor: FeatureExtractor,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        threshold: Threshold | None = None,
    ) -> None:
        self.device = torch.device(device)
        if precision not in PRECISIONS or (precision == "fp16" and self.device.type == "cpu"):
            got = f"{precision!r} on {self.device}"
            raise InputError(f"Detector: precision must be fp32, bf16 or, on CUDA, fp16, got {got}")
        self.config, self.precision, self.threshold = config, precision, threshold
        self.extractor = self._placed(extractor)
        self.timer: Callable[[str, Callable[[], Any]], Any] | None = None

    def _placed(self, module: Any) -> Any:
        """A module on the detector's device, in evaluation mode and laid out for its precision."""
        module = module.to(self.device).eval()
        if self.precision != "fp32":
            convert_conv2d_weight_memory_format(module, torch.channels_last)
        return module

    def _computing(self) -> torch.autocast:
        """Where convolutions and matrix products compute in the precision asked for."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=self.precision != "fp32", cache_enabled=False)

    def _stage(self, name: str, step: Callable[[], _Result]) -> _Result:
        """Run a step of :meth:`_score` that ``thfr bench`` names in its table."""
        return step() if self.timer is None else self.timer(name, step)

    @property
    def size(self) -> int:
        """Edge of the square input in pixels."""
        return self.config.model.size

    @property
    def template_count(self) -> int:
        """Good images that new ones are compared with, one by one; 0 for a method that keeps none."""
        return 0

    def nearest_templates(
        self,
        images: Tensor,  # uint8 [B,3,S,S]
    ) -> Tensor | None:
        """Which training image each image is compared with first, int64 [B], counted as in
        :func:`thfr.training.train`; None for a method that keeps none.
        """
        return None

    @classmethod
    @abstractmethod
    def fit(
        cls: type[DetectorT], config: Any, extractor: FeatureExtractor, context: FitContext
    ) -> tuple[DetectorT, dict[str, Any]]:
        """Learn from good images; gives the detector and facts about the fitting, for ``run.json``.

        Raises:
            InputError: the images do not suffice for the configuration.
        """

    @abstractmethod
    def _score(
        self,
        images: Tensor,  # uint8 [B,3,S,S]
    ) -> tuple[Tensor, Tensor]:  # fp32 [B,S,S] and [B]
        """Anomaly maps and image scores; larger is more anomalous."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything learnt, by name: what ``model.safetensors`` holds."""

    @classmethod
    @abstractmethod
    def from_state(
        cls: type[DetectorT],
        config: Any,
        extractor: FeatureExtractor,
        state: dict[str, Tensor],
        device: torch.device,
        precision: Precision,
    ) -> DetectorT:
        """The inverse of :meth:`state`.

        Raises:
            InputError, KeyError, RuntimeError, ValueError: the state does not fit the configuration.
        """

    def good_maps(self) -> Iterator[Tensor] | None:
        """Maps [B,S,S] of good training images, each as if it were new, where the method can make them from
        what it keeps; None where it cannot.
        """
        return None

    def restorations(
        self,
        features: list[Tensor],  # three [B,C_l,H_l,W_l]
    ) -> list[Tensor]:
        """What the method takes the features of these images to be if nothing is wrong with them: levels like
        those of :meth:`features`.

        Raises:
            InputError: the method restores no features (``RESTORES``).
        """
        raise InputError(f"Detector: {self.config.label} restores no features")

    def prepare(self, images: Sequence[np.ndarray]) -> Tensor:
        """Resize uint8 RGB images [H,W,3], anti-aliased bilinear as in training, to a uint8 tensor
        [B,3,S,S].
        """
        if len(images) == 0:
            raise InputError("Detector: images is empty")
        edge = (self.size, self.size)
        prepared = torch.empty((len(images), 3, *edge), dtype=torch.uint8)
        for index, image in enumerate(images):
            if (
                not isinstance(image, np.ndarray)
                or image.dtype != np.uint8
                or image.ndim != 3
                or image.shape[2] != 3
            ):
                got = (
                    f"{image.dtype} {list(image.shape)}"
                    if isinstance(image, np.ndarray)
                    else type(image).__name__
                )
                raise InputError(f"Detector: images[{index}] must be a uint8 array [H,W,3], got {got}")
            pixels = np.array(resized(Image.fromarray(image), edge))
            prepared[index] = torch.from_numpy(pixels).permute(2, 0, 1)
        return prepared

    @torch.inference_mode()
    def features(
        self,
        images: Tensor,  # uint8 [B,3,S,S]
    ) -> list[Tensor]:
        """The extractor's three feature levels, in the precision asked for."""
        pixels = images.to(self.device).float().div_(255)
        if self.precision == "fp32":
            return self.extractor(pixels)
        with self._computing():
            levels = self.extractor(pixels.contiguous(memory_format=torch.channels_last))
        return [level.to(PRECISIONS[self.precision]) for level in levels]

    @torch.inference_mode()
    def score_prepared(
        self,
        images: Tensor,  # uint8 [B,3,S,S]
    ) -> tuple[Tensor, Tensor]:  # fp32 [B,S,S] and [B]
        """Anomaly maps and scores of images of the input size: one batch, all at once."""
        if images.dtype != torch.uint8 or images.shape[1:] != (3, self.size, self.size):
            raise ValueError(
                f"Detector: images must be uint8 [B,3,{self.size},{self.size}], "
                f"got {images.dtype} {list(images.shape)}"
            )
        return self._score(images)

    def score(
        self,
        images: Sequence[np.ndarray],  # uint8 [H_i,W_i,3], RGB
        batch_size: int = 8,
    ) -> Scores:
        """Anomaly maps at each image's own size (bilinear from the input size) and image scores."""
        prepared = self.prepare(images)
        maps: list[np.ndarray] = []
        scores: list[Tensor] = []
        for start in range(0, len(prepared), batch_size):
            batch, values = self.score_prepared(prepared[start : start + batch_size])
            scores.append(values.cpu())
            for image, single in zip(images[start : start + batch_size], batch, strict=True):
                native = F.interpolate(
                    single[None, None], image.shape[:2], mode="bilinear", align_corners=False
                )
                maps.append(native[0, 0].cpu().numpy())
        return Scores(maps, torch.cat(scores).numpy())

    def calibrate(
        self,
        images: Tensor,  # uint8 [N,3,S,S], good, not seen by training
        rate: float,
        source: str,
        batch_size: int = 8,
    ) -> Threshold:
        """Set :attr:`threshold` such that at most a share ``rate`` of good images is expected above it.

        ``source``: which images they are, in words. Raises InputError without an image, or for a rate outside
        of (0, 1).
        """
        scores = [self.score_prepared(batch)[1].cpu() for batch in images.split(batch_size) if len(batch)]
        flat = torch.cat(scores).tolist() if scores else []
        self.threshold = Threshold.from_scores(flat, rate, source)
        return self.threshold

    def save(self, folder: Path) -> None:
        """Write configuration, backbone, model and threshold: the folder then needs nothing else."""
        if self.config.uses_backbone:
            save_tensors(self.extractor.state_dict(), folder / files.BACKBONE)
        if self.threshold is not None:
            self.threshold.save(folder)
        save_tensors(self.state(), folder / files.MODEL)
        atomic_write_text(folder / files.CONFIG, self.config.to_yaml())

    @staticmethod
    def load(folder: Path, device: str = "auto", precision: Precision = "fp32") -> Detector[Any]:
        """Read a folder written by :meth:`save`, of any method; InputError names what is missing or
        damaged.
        """
        folder = Path(folder)
        config = read_config(folder / files.CONFIG)
        where = resolve_device(device)
        path = folder / files.MODEL
        if not path.is_file():
            raise InputError(f"Detector.load: {folder} holds no {path.name}: has its training finished?")
        extractor = create_backbone(config.model.backbone, pretrained=False)
        if config.uses_backbone:
            load_tensors(extractor, folder / files.BACKBONE)
        extractor.weights_digest = config.weights_digest
        try:
            detector = detector_class(config.method).from_state(
                config, extractor, load_file(path), where, precision
            )
        except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as error:
            raise InputError(f"Detector.load: {path} cannot be read: {error}") from error
        detector.threshold = Threshold.load(folder)
        return detector
