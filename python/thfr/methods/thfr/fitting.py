"""How the restoration network of THFR is fitted."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from thfr import distributed
from thfr.backbones import FeatureExtractor
from thfr.errors import InputError
from thfr.methods.common.augmentation import augmented
from thfr.methods.common.bank import TemplateBank
from thfr.methods.common.batches import batch_indices
from thfr.methods.common.context import FitContext
from thfr.methods.common.features import FeatureStore
from thfr.methods.common.losses import restoration_losses
from thfr.methods.common.optimisation import Optimiser, warm_up_and_decay
from thfr.methods.thfr.config import THFRConfig
from thfr.methods.thfr.corruption import corrupted
from thfr.methods.thfr.making import make_network
from thfr.methods.thfr.network import RestorationNetwork


def fit_restoration(
    config: THFRConfig, extractor: FeatureExtractor, context: FitContext
) -> tuple[RestorationNetwork, TemplateBank | None, dict[str, Any]]:
    """Train on good images: the network, the bank of a variant with compensation, and metadata.

    Raises:
        InputError: ``bank_ratio`` leaves fewer than two templates.
    """
    started = time.monotonic()
    copies = augmented(context.images, config.training.augmentation, config.training.seed)
    store = context.compute_features(extractor, torch.cat([context.images, *copies]))
    try:
        fitting = _Fitting(config, extractor, context, store)
        seconds = fitting.optimiser.run(fitting.losses, context, started)
        bank = fitting.bank
        if bank is not None and store.mapped:  # it must not point into the file about to be removed
            bank = TemplateBank.of([level.clone() for level in bank.features], bank.indices, config.model)
    finally:
        store.close()
    metadata = {
        "templates": 0 if bank is None else len(bank),
        "train_seconds": round(seconds, 3),
        "precision": fitting.optimiser.precision,
        "features_mapped": store.mapped,
    }
    return fitting.network, bank, metadata


class _Fitting:
    """What one fitting needs at every step."""

    def __init__(
        self, config: THFRConfig, extractor: FeatureExtractor, context: FitContext, store: FeatureStore
    ) -> None:
        self.config, self.device, self.store = config, context.device, store
        self.count, self.indices = len(context.images), context.indices
        self.network = self._make_network(extractor.channels)
        settings = config.training
        self.optimiser = Optimiser.of(
            settings, self.network, self.count, self.device, warm_up_and_decay, betas=settings.betas
        )
        self.bank, self.nearest = self._make_bank()

    def losses(self, step: int) -> dict[str, Tensor]:
        settings = self.config.training
        chosen = batch_indices(len(self.store), settings.batch_size, settings.seed, step)
        target = self.store.gather(chosen, self.device)
        given = target
        if settings.corruption:
            given = corrupted(target, self.store.levels, settings.seed, step, settings.corruption_cells)
        templates = None
        if self.bank is not None:
            assert self.nearest is not None
            templates = [level.to(self.device) for level in self.bank.gather(self.nearest[chosen])]
        # Drawn for the whole batch, so that every number of processes sees the same corruption.
        target, given = ([distributed.mine(level) for level in levels] for levels in (target, given))
        if templates is not None:
            templates = [distributed.mine(level) for level in templates]
        with self.optimiser.computing():
            restored = self.network(given, templates)
        return restoration_losses(target, restored, settings.loss)

    def _make_network(self, channels: tuple[int, ...]) -> RestorationNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.training.seed)
            network = make_network(self.config.model, channels)
        network.set_statistics(*self.store.statistics())
        return network.to(self.device)

    def _make_bank(self) -> tuple[TemplateBank | None, Tensor | None]:
        """The bank, and for each training image the index in it, int64 [N,1], of its nearest template, never
        its own.
        """
        model = self.config.model
        if not model.uses_templates:
            return None, None
        originals = [level[: self.count] for level in self.store.levels]
        bank = TemplateBank.of(originals, self.indices, model)
        bank = bank.subsample(model.bank_ratio, model.bank_method, self.config.training.seed)
        if len(bank) < 2:
            raise InputError(
                f"train: bank_ratio {model.bank_ratio} of {self.count} images leaves {len(bank)} "
                "template(s), needs at least 2"
            )
        nearest = []
        for some in torch.arange(len(self.store)).split(64):
            features, own = [level[some] for level in self.store.levels], self.indices[some % self.count]
            nearest.append(bank.nearest(features, own))
        return bank, torch.cat(nearest)
