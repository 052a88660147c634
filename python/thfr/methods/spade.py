"""SPADE: nearest training images, then nearest locations in them.

Cohen, Hoshen, Sub-Image Anomaly Detection with Deep Pyramid Correspondences, 2020 (arXiv:2005.02357): image
score (section 3.2), sub-image anomaly detection via image alignment (3.3), feature pyramid (3.4).

Differs from the paper:
- The image key is the global average of the last level there is, at stride 16; the paper's is at 32.
- ``stride`` may make the finest level of the pyramid coarser, where time is short.
- The gallery is kept as fp16.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

import thfr_ext
from thfr.backbones import FeatureExtractor
from thfr.config import ModelConfig, RunConfig, TrainingConfig
from thfr.errors import InputError
from thfr.methods.base import Detector
from thfr.methods.common.context import FitContext
from thfr.methods.common.features import feature_batches
from thfr.methods.common.patches import averaged, averaged_grids, concatenated, location_vectors
from thfr.methods.common.tiles import current_places
from thfr.methods.registry import register_method

_TOGETHER = 4  # gallery images searched at once: their pyramids must fit into memory


class SPADEModelConfig(ModelConfig):
    """The two searches."""

    image_neighbours: int = Field(default=50, ge=1)
    """Training images, K, whose distance is the image score and whose locations are searched (all, where
    there are fewer).
    """
    place_neighbours: int = Field(default=1, ge=1, le=64)
    """Locations, kappa, whose mean squared distance is that of a location."""
    stride: Literal[4, 8, 16] = 4
    """Least pixels between locations; a transformer's are its patches."""
    place_weight: float = Field(default=0.2, ge=0)
    """Of images seen in tiles: the squared distance, in squared mean lengths of a key, that is added for a
    tile of another place.
    """


class SPADEConfig(RunConfig):
    """A run of SPADE."""

    title: ClassVar[str] = "SPADE"
    paper: ClassVar[str] = (
        "Cohen and Hoshen, Sub-Image Anomaly Detection with Deep Pyramid Correspondences, 2020"
    )

    method: Literal["spade"] = "spade"
    model: SPADEModelConfig = SPADEModelConfig()
    training: TrainingConfig = TrainingConfig()


@register_method("spade", SPADEConfig)
class SPADEDetector(Detector[SPADEConfig]):
    """Compares an image with the K training images nearest to it.

    ``gallery``: the training images' levels, none finer than ``stride``, fp16 [N,C_l,H_l,W_l]; ``keys``:
    their image keys, fp16 [N,C_3]. The image score is the mean squared distance to the K keys, not a figure
    of the map.
    """

    def __init__(
        self,
        config: SPADEConfig,
        extractor: FeatureExtractor,
        gallery: list[Tensor],
        keys: Tensor,
        *options: Any,
    ) -> None:
        super().__init__(config, extractor, *options)
        self.gallery, self.keys = [level.to(self.device) for level in gallery], keys.to(self.device)
        self._place_length = float(keys.float().norm(dim=1).mean()) * (config.model.place_weight / 2) ** 0.5

    @classmethod
    def fit(
        cls, config: SPADEConfig, extractor: FeatureExtractor, context: FitContext
    ) -> tuple[SPADEDetector, dict[str, Any]]:
        store = context.compute_features(
            extractor,
            batch_size=8,
            keep=lambda levels: [
                *averaged(levels, extractor.strides, config.model.stride),
                image_keys(levels),
            ],
        )
        *gallery, keys = store.levels
        detector = cls(config, extractor, gallery, keys, context.device)
        metadata = {"gallery": len(keys), "features_mapped": store.mapped}
        store.close()  # a mapped file loses its name; the gallery keeps its content
        return detector, metadata

    @torch.inference_mode()
    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self._stage("extractor", lambda: self.features(images))
        scores, neighbours = self._stage("retrieval of images", lambda: self._nearest_images(features))
        levels = averaged(features, self.extractor.strides, self.config.model.stride)
        distances = self._stage(
            "retrieval of locations",
            lambda: torch.stack(
                [
                    self._location_distances([level[image] for level in levels], neighbours[image])
                    for image in range(len(images))
                ]
            ),
        )
        maps, _ = self._stage("scoring", lambda: self._smoothed([distances]))
        return maps, scores

    def _nearest_images(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:  # fp32 [B], int64 [B,K]
        count = min(self.config.model.image_neighbours, len(self.keys))
        keys, bank = image_keys(features).float(), self.keys
        if self.config.model.tile_count > 1:  # the gallery's tiles lie image by image, place by place
            keys = self._with_place(keys, current_places(keys.shape[0]))
            bank = self._with_place(bank.float(), torch.arange(len(bank)) % self.config.model.tile_count)
        found = thfr_ext.nearest_templates(keys, bank, k=count, metric="l2")
        return found[0].square().mean(1), found[1]

    def _with_place(self, keys: Tensor, places: Tensor) -> Tensor:
        axes = F.one_hot(places.to(keys.device), self.config.model.tile_count).to(keys)
        return torch.cat([keys, axes * self._place_length], 1)

    def _location_distances(
        self,
        levels: list[Tensor],  # three [C_l,H_l,W_l], of one image
        neighbours: Tensor,  # int64 [K], in the gallery
    ) -> Tensor:  # fp32 [H,W]
        """Mean squared distance of every location to the nearest locations of all neighbours."""
        queries = location_vectors(concatenated([level[None].float() for level in levels]))
        count = self.config.model.place_neighbours
        nearest = queries.new_empty(len(queries), 0)
        for some in neighbours.split(_TOGETHER):
            bank = location_vectors(concatenated([level[some].float() for level in self.gallery]))
            found = thfr_ext.nearest_templates(queries, bank, k=count, metric="l2")[0]
            nearest = torch.cat([nearest, found], 1).topk(count, 1, largest=False).values
        return nearest.square().mean(1).view(max(level.shape[1:] for level in levels))

    @torch.inference_mode()
    def taught(self, images: Tensor, learnt: int) -> SPADEDetector:
        """The images join the gallery."""
        parts = [self.gallery]
        keys = [self.keys]
        for _, levels in feature_batches(self.extractor, images, self.device):
            finest = averaged(levels, self.extractor.strides, self.config.model.stride)
            parts.append([level.half() for level in finest])
            keys.append(image_keys(levels).half())
        gallery = [torch.cat(level) for level in zip(*parts, strict=True)]
        return self._renewed(gallery=gallery, keys=torch.cat(keys))

    def state(self) -> dict[str, Tensor]:
        return {**{f"level{index}": level for index, level in enumerate(self.gallery)}, "keys": self.keys}

    @classmethod
    def from_state(
        cls, config: SPADEConfig, extractor: FeatureExtractor, state: dict[str, Tensor], *options: Any
    ) -> SPADEDetector:
        *gallery, keys = (state[name] for name in ("level0", "level1", "level2", "keys"))
        model, images = config.model, len(keys)
        grids = averaged_grids(model.grids, extractor.strides, model.stride)
        wanted = [(images, channels, *grid) for channels, grid in zip(extractor.channels, grids, strict=True)]
        for found, shape in zip([*gallery, keys], [*wanted, wanted[-1][:2]], strict=True):
            if found.shape != shape or found.dtype != torch.float16:
                got = f"{found.dtype} {list(found.shape)}"
                raise InputError(f"SPADE: the gallery must be fp16 {list(shape)}, got {got}")
        return cls(config, extractor, gallery, keys, *options)


def image_keys(
    levels: list[Tensor],  # three [B,C_l,H_l,W_l]
) -> Tensor:  # [B,C_3]
    """What images are compared by: the global average of the coarsest level."""
    return levels[2].mean((2, 3))
