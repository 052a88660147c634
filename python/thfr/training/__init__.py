"""Training: ``train(config, dataset, out)`` gives a :class:`thfr.models.Detector`."""

from thfr.models import Detector
from thfr.training.features import FeatureStore, compute_features
from thfr.training.trainer import is_finished, train

TrainedModel = Detector

__all__ = ["Detector", "FeatureStore", "TrainedModel", "compute_features", "is_finished", "train"]
