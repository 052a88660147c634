"""The detector of methods that restore features: THFR and RD4AD."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

import thfr_ext
from thfr.methods.base import ConfigT, Detector


class RestoringDetector(Detector[ConfigT]):
    """The map is the sum over the levels of the cosine distance between extracted and restored features, the
    score its maximum.
    """

    @abstractmethod
    def restorations(
        self,
        features: list[Tensor],  # three [B,C_l,H_l,W_l]
    ) -> list[Tensor]:  # in the same shapes and dtypes
        """What the method takes the features of these images to be if nothing is wrong with them; levels like
        those of :meth:`features`.
        """

    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self._stage("extractor", lambda: self.features(images))
        restored = self.restorations(features)
        return self._stage("scoring", lambda: self._map(features, restored))

    def _map(self, features: list[Tensor], restored: list[Tensor]) -> tuple[Tensor, Tensor]:
        return thfr_ext.anomaly_map(features, restored, self.config.model.size, sigma=4.0, combine="sum")
