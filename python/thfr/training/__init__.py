"""Training: ``train(config, dataset, out)`` gives a :class:`thfr.methods.Detector`."""

from thfr.runs.folder import is_finished
from thfr.training.trainer import train

__all__ = ["is_finished", "train"]
