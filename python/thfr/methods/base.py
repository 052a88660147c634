"""What every method has: it is fitted on good images, gives anomaly maps and image scores, and can be
stored.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from copy import copy
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

import thfr_ext
from thfr.backbones import FeatureExtractor, create_backbone
from thfr.config import RunConfig
from thfr.errors import InputError
from thfr.io import atomic_write_text
from thfr.io.framing import box_of, native_counted
from thfr.methods.common.calibrating import measure
from thfr.methods.common.context import PRECISIONS, FitContext, Precision, resolve_device
from thfr.methods.common.counting import Counting, native_map
from thfr.methods.common.hooks import image_means, observe, observed_features, stage
from thfr.methods.common.tiles import Score, score_tiles
from thfr.methods.registry import detector_class, read_config
from thfr.predictions.arrays import Answer, ArrayScorer
from thfr.predictions.arrays import Scores as Scores
from thfr.predictions.scale import ColourScale
from thfr.runs import files
from thfr.runs.categories import Categories
from thfr.runs.digest import check_files
from thfr.runs.inputs import RunInputs
from thfr.runs.reference import FeatureReference
from thfr.runs.tensors import load_tensors, read_tensors, save_tensors
from thfr.runs.threshold import Threshold

_Result = TypeVar("_Result")
ConfigT = TypeVar("ConfigT", bound=RunConfig)
DetectorT = TypeVar("DetectorT", bound="Detector[Any]")


class Detector(ArrayScorer, Generic[ConfigT]):
    """A fitted method; made by :func:`thfr.training.train` or :meth:`load`. Threads may share one.

    Attributes: ``config``; ``threshold``, None where no good images were kept for it, and of a run on several
    categories: those are in ``categories``, else None; ``scale``, of the
    colours of its maps, and ``reference``, mean features, both None where nothing is known of good images;
    ``inputs``: how it reads images; ``digest`` of the run folder that it was read from or written to;
    ``device``; ``precision``: what convolutions and matrix products compute in; in fp16 (CUDA only) and bf16
    the features are channels-last.
    """

    speaker = "Detector"

    def __init__(
        self,
        config: ConfigT,
        extractor: FeatureExtractor | None,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        self.device = torch.device(device)
        if precision not in PRECISIONS or (precision == "fp16" and self.device.type == "cpu"):
            got = f"{precision!r} on {self.device}"
            raise InputError(f"Detector: precision must be fp32, bf16 or, on CUDA, fp16, got {got}")
        self.config, self.size = config, config.model.canvas
        self.precision: Precision = precision
        self.threshold = self.scale = self.digest = self.categories = None
        self.reference: FeatureReference | None = None
        self.inputs = RunInputs()
        self._counting = Counting()
        self._extractor: FeatureExtractor | None = None if extractor is None else self._placed(extractor)

    @property
    def extractor(self) -> FeatureExtractor:
        """The frozen backbone.

        Raises:
            InputError: the method uses none (``config.uses_backbone``).
        """
        if self._extractor is None:
            raise InputError(f"Detector: {self.config.label} uses no backbone")
        return self._extractor

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
        """Run a step of :meth:`_score` that ``thfr bench`` names in its table; see :func:`timed_stages`."""
        return stage(name, step)

    def _smoothed(
        self,
        levels: list[Tensor],  # [B,h_l,w_l]
    ) -> tuple[Tensor, Tensor]:  # fp32 [B,H,W] and [B]
        """The sum of maps of any resolution, up-sampled to the input size and blurred, and its maximum."""
        maps, scores = thfr_ext.upsample_blur(levels, self.config.model.size, sigma=4.0, combine="sum")
        return maps, scores

    @property
    def label(self) -> str:
        """The method, and its variant where it has several, in words."""
        return self.config.label

    @property
    def template_count(self) -> int:
        """Good images that new ones are compared with, one by one; 0 for a method that keeps none."""
        return 0

    def nearest_templates(
        self,
        images: Tensor,  # uint8 [B,3,H,W]
    ) -> Tensor | None:
        """Index of the training image that each image is compared with first, int64 [B], counted as in
        :func:`thfr.training.train`, below -1 for an image of :meth:`taught`; None for a method that keeps
        none.
        """
        return None

    @classmethod
    @abstractmethod
    def fit(
        cls: type[DetectorT], config: Any, extractor: Any, context: FitContext
    ) -> tuple[DetectorT, dict[str, Any]]:
        """Learn from good images; gives the detector and metadata of the fitting, for ``run.json``.

        Args:
            config: of the method's own class.
            extractor: the frozen :class:`~thfr.backbones.FeatureExtractor`; None where the configuration
                says that the method uses no backbone.

        Raises:
            InputError: the images do not suffice for the configuration.
        """

    @abstractmethod
    def _score(
        self,
        images: Tensor,  # uint8 [B,3,H,W]
    ) -> tuple[Tensor, Tensor]:  # fp32 [B,H,W] and [B]
        """Anomaly maps and image scores; larger is more anomalous."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything learnt, by name: what ``model.safetensors`` holds."""

    @classmethod
    @abstractmethod
    def from_state(
        cls: type[DetectorT],
        config: Any,
        extractor: Any,
        state: dict[str, Tensor],
        device: torch.device,
        precision: Precision,
    ) -> DetectorT:
        """The inverse of :meth:`state`; device and precision are the constructor's last arguments.

        Raises:
            InputError, KeyError, RuntimeError, ValueError: the state does not fit the configuration.
        """

    def taught(
        self: DetectorT,
        images: Tensor,  # uint8 [N,3,h,w], good, at the network's input size, as in FitContext
        learnt: int,
    ) -> DetectorT:
        """A detector that also keeps these good images, without training; this one stays as it is. It has no
        threshold and no colour scale: :meth:`calibrate` it with images that it does not keep.

        Args:
            learnt: images, or tiles, that this one was learnt from.

        Raises:
            InputError: the method keeps no good images, or no image was given.
        """
        raise InputError(
            f"teach: {self.config.label} keeps no good images that others could be added to: train it again "
            "with these among its images"
        )

    def _renewed(self: DetectorT, **learnt: Any) -> DetectorT:
        """This detector with other attributes, and without what was found with the old ones."""
        other = copy(self)
        other.threshold = other.scale = other.reference = other.digest = None
        for name, value in learnt.items():
            setattr(other, name, value)
        return other

    def good_maps(self, learnt: Tensor | None = None) -> Iterator[Tensor] | None:
        """Batches of maps, fp32 [B,H,W], of good training images, each as if it were new, where the method
        can make them from what it keeps; None where it cannot. Called when training ends: the colour scale of
        good images is taken from them.

        Args:
            learnt: int64 [n], indices of the images to make them of; None: of all.
        """
        return None

    def prepare(self, images: Sequence[np.ndarray]) -> Tensor:
        """RGB images [h,w,3] as the network takes them, uint8 [B,3,H,W]; see :meth:`framed`."""
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(self.framed(images), 3, 1)))

    @torch.inference_mode()
    def features(
        self,
        images: Tensor,  # uint8 [B,3,H,W]
    ) -> list[Tensor]:
        """The extractor's three feature levels, [B,C_l,H_l,W_l], in the precision asked for.

        Raises:
            InputError: the method uses no backbone.
        """
        pixels = images.to(self.device).float().div_(255)
        if self.precision == "fp32":
            levels = self.extractor(pixels)
        else:
            with self._computing():
                found = self.extractor(pixels.contiguous(memory_format=torch.channels_last))
            levels = [level.to(PRECISIONS[self.precision]) for level in found]
        observe(levels)
        return levels

    @torch.inference_mode()
    def score_prepared(
        self,
        images: Tensor,  # uint8 [B,3,H,W]
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fp32 [B,H,W] and [B]
        """Anomaly maps and scores of prepared images (:attr:`size`): one batch, all at once.

        The score is the method's own. Where an image is seen in tiles, letterboxed or by a region of
        interest it is the maximum of the map over what counts, and the map has its least value elsewhere.

        Args:
            sizes: (height, width) of each image before it was prepared: where a letterboxed one lies; None:
                all of a letterboxed input counts.

        Raises:
            ValueError: images of another dtype or shape.
        """
        if images.dtype != torch.uint8 or images.shape[1:] != (3, *self.size):
            raise ValueError(
                f"Detector: images must be uint8 [B,3,{self.size[0]},{self.size[1]}], "
                f"got {images.dtype} {list(images.shape)}"
            )
        return self.score_whole(images, self._score, score_tiles, sizes)

    def score_whole(
        self,
        images: Tensor,  # uint8 [B,3,H,W]
        score: Score,
        in_tiles: Callable[[Tensor, Any, Score], Tensor],
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fp32 [B,H,W] and [B]
        """:meth:`score_prepared` with another way to score the network's input, or its tiles; for export."""
        model, options = self.config.model, self.inputs.options
        if model.tile_count == 1:
            maps, scores = score(images)
        else:
            maps = in_tiles(images, model, score)
            scores = maps.amax((1, 2))
        known = None if options.fit == "stretch" else sizes
        inside = self._counting.inside(self.size, options, known, self.device)
        if inside is None:
            return maps, scores
        scores = maps.masked_fill(~inside, -torch.inf).amax((1, 2))
        least = maps.masked_fill(~inside, torch.inf).amin((1, 2), keepdim=True)
        return torch.where(inside, maps, least), scores

    def native_map(
        self,
        single: Tensor,  # fp32 [H,W]
        size: tuple[int, int],
    ) -> np.ndarray:  # float32 [h,w]
        """The map of a prepared image over the image itself, ``size`` = (height, width)."""
        options = self.inputs.options
        box = box_of(size, self.size, options.fit)
        return native_counted(native_map(single[box.slices], size), options.region)

    def score(
        self,
        images: Sequence[np.ndarray],  # [H_i,W_i,3], RGB, see prepare
        batch_size: int = 8,
    ) -> Scores:
        """Anomaly maps at each image's own size (bilinear from the input size) and image scores.

        Raises:
            InputError: no image, or one that :meth:`prepare` refuses.
        """
        return Scores.of(self._answers(images, batch_size))

    def score_read(
        self,
        pixels: np.ndarray,  # uint8 [B,H,W,3]
        sizes: Sequence[tuple[int, int]],
    ) -> Iterator[Answer]:
        images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, 3, 1)))
        found: Sequence[str | None] = [None] * len(images)
        watched = nullcontext(list[np.ndarray]()) if self.categories is None else observed_features()
        with watched as means:
            maps, scores = self.score_prepared(images, sizes)
        if self.categories is not None:
            found = self.categories.find(np.asarray(image_means(means, self.config.model.tile_count)))
        for single, score, size, category in zip(maps, scores.tolist(), sizes, found, strict=True):
            yield Answer(self.native_map(single, size), score, category)

    def calibrate(
        self,
        images: Tensor,  # uint8 [N,3,H,W], good, not seen by training
        rate: float,
        source: str,
        batch_size: int = 8,
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> Threshold:
        """Set :attr:`threshold` such that at most a share ``rate`` of good images is expected above it,
        :attr:`scale` by the images' maps, and :attr:`reference` by their features.

        Args:
            source: which images they are, in words.
            sizes: of the images before they were prepared, see :meth:`score_prepared`.

        Raises:
            InputError: no image, a rate outside of (0, 1), or a run on several categories.
        """
        self.require_one_category("calibrate")
        good = measure(self, images, batch_size, sizes)
        self.threshold = Threshold.from_scores(good.scores, rate, source)
        self.scale, self.reference = good.scale(source), good.reference
        return self.threshold

    def save(self, folder: Path) -> None:
        """Write configuration, inputs, backbone, model, threshold and colour scale: the folder then needs
        nothing else.
        """
        if self.config.uses_backbone:
            save_tensors(self.extractor.state_dict(), folder / files.BACKBONE)
        save_tensors(self.state(), folder / files.MODEL)
        atomic_write_text(folder / files.CONFIG, self.config.to_yaml())
        if self.inputs != RunInputs():  # else an older run, whose digest must not change
            self.inputs.save(folder)
        # last: a digest of the others is in them
        for part in (self.categories, self.threshold, self.scale, self.reference):
            if part is not None:
                part.save(folder)

    @staticmethod
    def load(folder: Path, device: str = "auto", precision: Precision = "fp32") -> Detector[Any]:
        """Read a folder written by :meth:`save`, of any method.

        Raises:
            InputError: names the file that is missing or damaged, or does not fit the configuration.
        """
        folder = Path(folder)
        config = read_config(folder / files.CONFIG)
        where = resolve_device(device)
        path = folder / files.MODEL
        if not path.is_file():
            raise InputError(f"Detector.load: {folder} holds no {path.name}: has its training finished?")
        digest, state = check_files(folder), read_tensors(path)
        with torch.random.fork_rng(devices=[]):  # modules are made with random weights first
            extractor = None
            if config.uses_backbone:
                extractor = create_backbone(
                    config.model.backbone, pretrained=False, depths=config.model.depths
                )
                load_tensors(extractor, folder / files.BACKBONE)
                extractor.weights_digest = config.weights_digest
            try:
                detector = detector_class(config.method).from_state(
                    config, extractor, state, where, precision
                )
            except (RuntimeError, ValueError, KeyError) as error:
                raise InputError(f"Detector.load: {path} cannot be read: {error}") from error
        detector.digest, detector.threshold = digest, Threshold.load(folder, digest)
        detector.scale, detector.inputs = ColourScale.load(folder), RunInputs.load(folder)
        detector.reference = FeatureReference.load(folder)
        detector.categories = Categories.load(folder, digest)
        return detector
