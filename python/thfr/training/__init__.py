"""Training: ``train(config, dataset, out)`` gives a :class:`thfr.methods.Detector`."""

from thfr.methods.common.features import FeatureStore, compute_features
from thfr.training.trainer import is_finished, train

__all__ = ["FeatureStore", "compute_features", "is_finished", "train"]
