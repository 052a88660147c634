"""A trained detector: frozen extractor, restoration network, template bank; images in, anomaly maps and
scores out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

import thfr_ext
from thfr.backbones import FeatureExtractor, create_backbone
from thfr.config import RunConfig
from thfr.errors import InputError
from thfr.io import atomic_path, atomic_write_text
from thfr.models.bank import TemplateBank
from thfr.models.network import THFRNetwork
from thfr.models.threshold import Threshold

Templates = Literal["nearest", "random"]
Precision = Literal["fp32", "fp16", "bf16"]
PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

CONFIG_FILE = "config.yaml"
NETWORK_FILE = "network.safetensors"
BACKBONE_FILE = "backbone.safetensors"
BANK_FILE = "bank.safetensors"


@dataclass(frozen=True)
class Scores:
    """What :meth:`Detector.score` gives: anomaly maps at each image's own size, and one score an image."""

    maps: list[np.ndarray]  # float32 [H_i,W_i]
    scores: np.ndarray  # float32 [B], maximum of the map at input size


def resolve_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in {"cpu", "cuda"}:
        raise InputError(f"device: expected auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda was asked for, but torch sees no CUDA device")
    return torch.device(device)


class Detector:
    """Scores images; made by :func:`thfr.training.train` or :meth:`load`.

    ``bank`` is None for the variants without compensation, ``threshold`` where no good images were kept for
    it. ``precision``: what convolutions and matrix products compute in; in fp16 (CUDA only) and bf16 the
    features are channels-last.
    """

    def __init__(
        self,
        config: RunConfig,
        extractor: FeatureExtractor,
        network: THFRNetwork,
        bank: TemplateBank | None,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        threshold: Threshold | None = None,
    ) -> None:
        self.device = torch.device(device)
        if precision not in PRECISIONS or (precision == "fp16" and self.device.type == "cpu"):
            got = f"{precision!r} on {self.device}"
            raise InputError(f"Detector: precision must be fp32, bf16 or, on CUDA, fp16, got {got}")
        self.config, self.precision, self.threshold = config, precision, threshold
        self.extractor = extractor.to(self.device)
        self.network = network.to(self.device).eval()
        if precision != "fp32":
            for module in (self.extractor, self.network):
                convert_conv2d_weight_memory_format(module, torch.channels_last)
        self.bank = None if bank is None else bank.to(self.device)

    def _computing(self) -> torch.autocast:
        """Where convolutions and matrix products compute in the precision asked for."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=self.precision != "fp32", cache_enabled=False)

    @property
    def size(self) -> int:
        """Edge of the square input in pixels."""
        return self.config.model.size

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
            resized = Image.fromarray(image).resize(edge, Image.Resampling.BILINEAR)
            prepared[index] = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
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
    def restored(self, features: list[Tensor], templates: list[Tensor] | None) -> list[Tensor]:
        """The network's output for given templates, of the features' dtype."""
        with self._computing():
            restored = self.network(features, templates)
        return [level.to(like.dtype) for level, like in zip(restored, features, strict=True)]

    @torch.inference_mode()
    def restore(
        self, features: list[Tensor], templates: Templates = "nearest", seed: int = 0
    ) -> tuple[list[Tensor], Tensor | None]:
        """The restored features, and the templates' places in the bank [B,K] (None without compensation)."""
        if self.bank is None:
            if templates != "nearest":
                raise InputError(
                    f"Detector: the variant {self.config.model.variant} has no templates to shuffle"
                )
            return self.restored(features, None), None
        count = self.config.model.template_count
        if templates == "nearest":
            places = self.bank.nearest(features, count=count)
        elif templates == "random":
            places = self.bank.random(len(features[0]), seed, count)
        else:
            raise InputError(f'Detector: templates must be "nearest" or "random", got {templates!r}')
        return self.restored(features, self.bank.gather(places)), places

    @torch.inference_mode()
    def score_prepared(
        self,
        images: Tensor,  # uint8 [B,3,S,S]
        templates: Templates = "nearest",
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:  # fp32 [B,S,S] and [B]
        """Anomaly maps and scores of images of the input size: one batch, all at once."""
        if images.dtype != torch.uint8 or images.shape[1:] != (3, self.size, self.size):
            raise ValueError(
                f"Detector: images must be uint8 [B,3,{self.size},{self.size}], "
                f"got {images.dtype} {list(images.shape)}"
            )
        features = self.features(images)
        restored, _ = self.restore(features, templates, seed)
        return thfr_ext.anomaly_map(features, restored, (self.size, self.size), sigma=4.0, combine="sum")

    def score(
        self,
        images: Sequence[np.ndarray],  # uint8 [H_i,W_i,3], RGB
        batch_size: int = 8,
        templates: Templates = "nearest",
        seed: int = 0,
    ) -> Scores:
        """Anomaly maps at each image's own size (bilinear from the input size) and image scores.

        ``templates="random"`` gives every image a random template instead of its nearest: the control
        experiment that shows how much the templates matter; ``seed`` and the image's position choose it.
        """
        prepared = self.prepare(images)
        maps: list[np.ndarray] = []
        scores: list[Tensor] = []
        for start in range(0, len(prepared), batch_size):
            batch, values = self.score_prepared(prepared[start : start + batch_size], templates, seed + start)
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
        """Write configuration, backbone, network, bank and threshold: the folder then needs nothing else."""
        save_tensors(self.extractor.state_dict(), folder / BACKBONE_FILE)
        if self.bank is not None:
            self.bank.save(folder / BANK_FILE)
        if self.threshold is not None:
            self.threshold.save(folder)
        save_tensors(self.network.state_dict(), folder / NETWORK_FILE)
        atomic_write_text(folder / CONFIG_FILE, self.config.to_yaml())

    @classmethod
    def load(cls, folder: Path, device: str = "auto", precision: Precision = "fp32") -> Detector:
        """Read a folder written by :meth:`save`; InputError names what is missing or damaged."""
        folder = Path(folder)
        config = RunConfig.read(folder / CONFIG_FILE)
        where = resolve_device(device)
        if not (folder / NETWORK_FILE).is_file():
            raise InputError(f"Detector.load: {folder} holds no {NETWORK_FILE}: has its training finished?")
        extractor = create_backbone(config.model.backbone, pretrained=False)
        load_tensors(extractor, folder / BACKBONE_FILE)
        extractor.weights_digest = config.weights_digest
        network = THFRNetwork(config.model, extractor.channels)
        load_tensors(network, folder / NETWORK_FILE)
        bank = TemplateBank.load(folder / BANK_FILE, where) if config.model.uses_templates else None
        return cls(config, extractor, network, bank, where, precision, Threshold.load(folder))


def save_tensors(state: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, temporary, metadata)
        temporary.chmod(mode)  # safetensors makes files that only their owner can read


def load_tensors(module: torch.nn.Module, path: Path) -> None:
    """Read a module's tensors strictly; InputError if the file is missing, damaged or of another module."""
    try:
        module.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"Detector.load: {path} cannot be read: {error}") from error
