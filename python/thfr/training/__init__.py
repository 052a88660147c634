"""Training: ``train(config, dataset, out)`` gives a :class:`thfr.methods.Detector`."""

from thfr.runs.folder import is_finished as is_finished
from thfr.training.auto import auto_size as auto_size
from thfr.training.trainer import train as train
