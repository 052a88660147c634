"""Areas under the PRO, sPRO and ROC curves over the pixels of many images."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from thfr.data import Regions
from thfr_ext import au_pro, au_spro, auroc


class TestPixels:
    """The pixels of all test images: scores, labels and regions, filled image by image.

    Takes five bytes a pixel (all scores lie in one array, all labels in another, and nothing is copied again)
    and one byte for each pixel of an image and region. With what the operators need, nine bytes a pixel were
    measured at the peak: 4 GB for a full category of MVTec LOCO AD.
    """

    __test__ = False  # the name is not meant for pytest

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        """``sizes``: (height, width) of every image that will come, in that order."""
        ends = np.cumsum([0, *(height * width for height, width in sizes)])
        self._scores = np.empty(ends[-1], dtype=np.float32)
        self._labels = np.empty(ends[-1], dtype=bool)
        slices = [slice(ends[i], ends[i + 1]) for i in range(len(sizes))]
        self._maps = [self._scores[part].reshape(size) for part, size in zip(slices, sizes, strict=True)]
        self._masks = [self._labels[part].reshape(size) for part, size in zip(slices, sizes, strict=True)]
        self._regions: list[Regions] = []
        self._filled = 0

    def add_mask(self, anomaly_map: np.ndarray, mask: np.ndarray) -> None:
        """Take the next image: its map and its mask, both [H,W]."""
        self._maps[self._filled][:] = anomaly_map
        self._masks[self._filled][:] = mask
        self._filled += 1

    def add_regions(self, anomaly_map: np.ndarray, regions: Regions) -> None:
        """Take the next image: its map [H,W] and its regions, none for a good one."""
        self._regions.append(regions)
        self.add_mask(anomaly_map, np.any(regions.masks, axis=0))

    def pixel_auroc(self) -> float | None:
        """AUROC of the anomalous pixels against all others; None if there are none of either."""
        if self._one_sided(range(self._filled)):
            return None
        return float(auroc(self._scores, self._labels))

    def au_pro(self, limit: float) -> float | None:
        """AU-PRO over the 8-connected components of the masks, or over the regions where such were given;
        None as for :meth:`pixel_auroc`.
        """
        if self._regions:
            return self.au_pro_of_regions(limit)
        if self._one_sided(range(self._filled)):
            return None
        return float(au_pro(self._maps, self._masks, limit))

    def au_pro_of_regions(self, limit: float) -> float | None:
        """AU-PRO over the regions that :meth:`add_regions` was given; None as for :meth:`pixel_auroc`."""
        areas = [tuple(int(mask.sum()) for mask in regions.masks) for regions in self._regions]
        return self._au_spro(range(self._filled), areas, (limit,))[limit]

    def au_spro(self, images: Collection[int], limits: Sequence[float]) -> dict[float, float | None]:
        """AU-sPRO of some of the images for each FPR limit; None as for :meth:`pixel_auroc`."""
        return self._au_spro(images, [regions.saturations for regions in self._regions], limits)

    def _au_spro(
        self, images: Collection[int], saturations: Sequence[tuple[int, ...]], limits: Sequence[float]
    ) -> dict[float, float | None]:
        if self._one_sided(images):
            return dict.fromkeys(limits)
        areas = au_spro(
            [self._maps[i] for i in images],
            [self._regions[i].masks for i in images],
            [saturations[i] for i in images],
            limits,
        )
        return {limit: float(areas[limit]) for limit in limits}

    def _one_sided(self, images: Collection[int]) -> bool:
        return not any(self._masks[i].any() for i in images) or all(self._masks[i].all() for i in images)
