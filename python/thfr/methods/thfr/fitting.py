"""How the restoration network of THFR is fitted."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

import thfr_ext
from thfr.backbones import FeatureExtractor
from thfr.errors import InputError
from thfr.methods.base import FitContext
from thfr.methods.common.batches import batch_rows
from thfr.methods.common.features import compute_features
from thfr.methods.common.loop import optimise, rate_at
from thfr.methods.common.precision import resolve_precision
from thfr.methods.thfr.augmentation import augmented
from thfr.methods.thfr.bank import TemplateBank
from thfr.methods.thfr.config import THFRConfig
from thfr.methods.thfr.corruption import corrupted
from thfr.methods.thfr.network import THFRNetwork


def fit_restoration(
    config: THFRConfig, extractor: FeatureExtractor, context: FitContext
) -> tuple[THFRNetwork, TemplateBank | None, dict[str, Any]]:
    """Train on good images: the network, the bank of a variant with compensation, and metadata.

    Raises:
        InputError: ``bank_ratio`` leaves fewer than two templates.
    """
    fitting = _Fitting(config, extractor, context)
    try:
        seconds = optimise(
            context, fitting.network, fitting.optimizer, fitting.total, fitting.step, fitting.started
        )
        bank = fitting.bank
        if bank is not None and fitting.store.mapped:  # it must not point into the file about to be removed
            bank = TemplateBank([level.clone() for level in bank.features], bank.rows, bank.key_cells)
        metadata = {
            "templates": 0 if bank is None else len(bank),
            "train_seconds": round(seconds, 3),
            "precision": fitting.precision,
            "features_mapped": fitting.store.mapped,
        }
    finally:
        fitting.store.close()
    return fitting.network, bank, metadata


class _Fitting:
    """What one fitting needs at every step."""

    def __init__(self, config: THFRConfig, extractor: FeatureExtractor, context: FitContext) -> None:
        self.started = time.monotonic()
        self.config, self.device = config, context.device
        self.channels = extractor.channels
        self.precision = resolve_precision(config.training.precision, context.device)
        self.images, self.numbers = len(context.images), context.indices
        copies = augmented(context.images, config.training.augmentation, config.training.seed)
        self.store = compute_features(
            extractor,
            torch.cat([context.images, *copies]),
            context.device,
            context.out,
            context.cache_budget,
            progress=context.progress,
        )
        self.total = config.training.steps(self.images)
        self.network = self._make_network()
        self.optimizer = torch.optim.Adam(
            self.network.parameters(),
            lr=config.training.learning_rate,
            betas=config.training.betas,
            fused=True,
        )
        self.bank, self.nearest = self._make_bank()

    def step(self, step: int) -> dict[str, float]:
        settings = self.config.training
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate_at(step, self.total)
        rows = batch_rows(len(self.store), settings.batch_size, settings.seed, step)
        target = self.store.gather(rows, self.device)
        given = target
        if settings.corruption:
            given = corrupted(target, self.store.levels, settings.seed, step, settings.corruption_cells)
        templates = None
        if self.bank is not None:
            assert self.nearest is not None
            templates = [level.to(self.device) for level in self.bank.gather(self.nearest[rows])]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            restored = self.network(given, templates)
        losses = [level_loss(*pair, settings.loss) for pair in zip(target, restored, strict=True)]
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()
        self.optimizer.step()
        return {f"level{number}": float(loss.detach()) for number, loss in enumerate(losses, 1)}

    def _make_network(self) -> THFRNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.training.seed)
            network = THFRNetwork(self.config.model, self.channels)
        network.set_statistics(*self.store.statistics())
        return network.to(self.device)

    def _make_bank(self) -> tuple[TemplateBank | None, Tensor | None]:
        """The bank, and for each training image the place [1] of its nearest template, never its own."""
        model = self.config.model
        if not model.uses_templates:
            return None, None
        originals = [level[: self.images] for level in self.store.levels]
        bank = TemplateBank.build(originals, self.numbers, model.key_cells)
        bank = bank.subsample(model.bank_ratio, model.bank_method, self.config.training.seed)
        if len(bank) < 2:
            raise InputError(
                f"train: bank_ratio {model.bank_ratio} of {self.images} images leaves {len(bank)} "
                "template(s), needs at least 2"
            )
        nearest = []
        for rows in torch.arange(len(self.store)).split(64):
            features, own = [level[rows] for level in self.store.levels], self.numbers[rows % self.images]
            nearest.append(bank.nearest(features, own))
        return bank, torch.cat(nearest)


def level_loss(
    wanted: Tensor,  # [B,C,H,W]
    restored: Tensor,  # [B,C,H,W]
    kind: str,
) -> Tensor:
    """The loss of one level, see :attr:`thfr.config.THFRTrainingConfig.loss`."""
    if kind == "flattened":
        wanted, restored = (x.flatten(1)[:, :, None, None] for x in (wanted, restored))
    return thfr_ext.cosine_distance(wanted, restored).mean()
