"""The metrics: what each samples, keeps and computes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from thfr_ext.metrics import memory as memory_of
from thfr_ext.metrics.base import Metric, State
from thfr_ext.metrics.bins import bins_area
from thfr_ext.metrics.memory import BOUNDED_MEMORY, LEAST_MEMORY, Budget
from thfr_ext.sweep import LOCO_LIMITS
from thfr_ext.sweep import ops as sweep_ops
from thfr_ext.sweep.checks import raise_nan
from thfr_ext.sweep.inputs import limit_of, limits_of, maps_and_masks, maps_and_regions, scores_and_labels


def _require_numbers(name: str, argument: str, tensors: Sequence[Tensor]) -> None:
    if any(bool(t.isnan().any()) for t in tensors):
        raise_nan(name, argument, tensors)


def _offsets(areas: Tensor) -> Tensor:
    return torch.nn.functional.pad(areas.cumsum(0), (1, 0))


class _ModedMetric(Metric):
    """The two modes: which states there are, and the share of a joined bin."""

    def __init__(self, exact: bool = True, memory: int | None = None, **kwargs: Any) -> None:
        name = type(self).__name__
        if exact and memory is not None:
            raise ValueError(f"{name}: memory: expected None with exact=True, got {memory}")
        if memory is not None and memory < LEAST_MEMORY:
            raise ValueError(f"{name}: memory: expected at least {LEAST_MEMORY} bytes, got {memory}")
        self.exact = exact
        self._budget = None if exact else Budget(BOUNDED_MEMORY if memory is None else memory)
        self._names = self._exact_names if exact else self._bounded_names
        super().__init__(**kwargs)

    _exact_names: tuple[str, ...]
    _bounded_names: tuple[str, ...]
    #: the two sketches of a bounded state, and whether the share of a joined bin is one of its rank
    _sketches: ClassVar[dict[str, bool]]
    limits: Sequence[float]

    @property
    def memory(self) -> int | None:
        """Bytes that the state of a bounded metric may take; None for an exact one."""
        return self._budget.memory if self._budget is not None else None

    def _require(self, counts: Iterable[int]) -> None:
        for words, count in zip(self._classes, counts, strict=True):
            if count == 0:
                raise ValueError(f"{type(self).__name__}: compute: expected at least one {words}, got none")

    def _compact(self, state: State, whole: bool = False) -> None:
        if self._budget is None:
            memory_of.join_exact(state, whole)
        elif state["shares"]:
            shares = torch.stack(state["shares"]).amax(0)
            for i, (name, by_rank) in enumerate(self._sketches.items()):
                state[name], raised = self._budget.join(state[name], float(shares[i]), by_rank, whole)
                shares[i] = raised
            state["shares"] = [shares]

    @abstractmethod
    def _total(self, state: State) -> float:
        """The weight of all that a bounded state holds of the anomalous class."""

    def _bounds(self, state: State) -> Tensor:
        if self._budget is None:
            samples = {name: torch.cat(tensors) for name, tensors in state.items()}
            self._require(len(samples[name]) for name in self._classes.values())
            return self._value(samples).expand(2, -1)
        self._compact(state, whole=True)
        negatives, anomalous = (state[name][0] for name in self._sketches)
        self._require((anomalous.shape[1], negatives.shape[1]))
        bounds = bins_area(negatives, anomalous, self._total(state), self.limits)
        rounding = torch.tensor([[-memory_of.ROUNDING], [memory_of.ROUNDING]], device=bounds.device)
        return (bounds + rounding).clamp(0, 1)


class _RegionMetric(_ModedMetric):
    """Samples: negatives [n], regions' scores [p], areas [R], saturations [R]."""

    _bounded_names = ("negatives", "regions", "region_count", "shares")
    _sketches: ClassVar = {"negatives": True, "regions": False}
    _classes: ClassVar = {"anomalous region": "areas", "pixel outside of regions": "negatives"}

    def _of(self, maps: list[Tensor], operator: Any, others: list[Tensor]) -> Any:
        try:
            return operator(maps, others)
        except ValueError:
            _require_numbers(type(self).__name__, "maps", maps)  # says so under this metric's name
            raise

    def _value(self, samples: dict[str, Tensor]) -> Tensor:
        negatives, scores, areas = (samples[name] for name in ("negatives", "scores", "areas"))
        wide = torch.promote_types(negatives.dtype, scores.dtype)
        return sweep_ops.spro_area(
            negatives.to(wide),
            scores.to(wide),
            _offsets(areas),
            samples.get("saturations", areas),
            self.limits,
        )

    def _kept(self, samples: dict[str, Tensor]) -> dict[str, Tensor]:
        regions = samples["scores"], samples["areas"], samples["saturations"]
        if self.exact:
            scores, areas = memory_of.keep_tops(*regions)
            return {name: {**samples, "scores": scores, "areas": areas}[name] for name in self._names}
        return {
            "negatives": samples["negatives"],
            "regions": memory_of.region_bins(*regions),
            "region_count": torch.tensor([len(samples["areas"])], device=self._device),
            "shares": torch.zeros(2, dtype=torch.float64, device=self._device),
        }

    def _compact(self, state: State, whole: bool = False) -> None:
        super()._compact(state, whole)
        if state.get("region_count"):
            state["region_count"] = [torch.cat(state["region_count"]).sum(0, keepdim=True)]

    def _total(self, state: State) -> float:
        return float(state["region_count"][0] * memory_of.REGION_WEIGHT)


class AUPRO(_RegionMetric):
    """:func:`thfr_ext.au_pro` of all batches: to the bit, or in bounded memory (see the module)."""

    _exact_names = ("negatives", "scores", "areas")

    def __init__(self, limit: float = 0.3, **kwargs: Any) -> None:
        """
        Args:
            limit: FPR in (0, 1].
            exact: keep all, so that the value is exact (the default), or ``memory`` bytes at most.
            memory: bytes of the state of a bounded metric, 32,000,000 by default and at least 1,000,000.
            process_group: of torch.distributed, whose metrics ``compute`` joins; default: all processes.
            sync_on_compute: join the metrics of all processes in ``compute`` where torch.distributed is
                initialised.

        Raises:
            ValueError: ``limit`` or ``memory`` out of range, ``memory`` for an exact metric.
        """
        super().__init__(**kwargs)
        self.limit = limit_of("AUPRO", "limit", limit)
        self.limits = [self.limit]

    def update(self, maps: Any, masks: Any) -> None:
        """Take in maps [N,H,W] and masks [N,H,W] bool (or sequences of [H,W]); images may be good.

        Raises:
            ValueError, TypeError: as :func:`thfr_ext.au_pro`, for shapes, dtypes, devices and NaN.
        """
        self._add(self._sample(maps, masks))

    def _sample(self, maps: Any, masks: Any) -> dict[str, Tensor]:
        images, marks = maps_and_masks("AUPRO", maps, masks)
        negatives, scores, offsets = self._of(images, sweep_ops.component_samples, marks)
        areas = offsets.diff()
        return {"negatives": negatives, "scores": scores, "areas": areas, "saturations": areas}


class AUsPRO(_RegionMetric):
    """:func:`thfr_ext.au_spro` of all batches: to the bit, or in bounded memory (see the module). Results are
    dicts: limit -> area."""

    _exact_names = ("negatives", "scores", "areas", "saturations")

    def __init__(self, limits: Sequence[float] = LOCO_LIMITS, **kwargs: Any) -> None:
        """``limits``: FPRs in (0, 1]; ``kwargs``: as of :class:`AUPRO`."""
        super().__init__(**kwargs)
        self.limits = limits_of("AUsPRO", limits)
        self._areas = len(self.limits)

    def update(self, maps: Any, regions: Any, saturations: Any) -> None:
        """Take in maps, regions and saturations as of :func:`thfr_ext.au_spro`; images may be good.

        Raises:
            ValueError, TypeError: as :func:`thfr_ext.au_spro`, for shapes, dtypes, devices and NaN.
        """
        self._add(self._sample(maps, regions, saturations))

    def _sample(self, maps: Any, regions: Any, saturations: Any) -> dict[str, Tensor]:
        images, masks, counts = maps_and_regions("AUsPRO", maps, regions, saturations)
        negatives, scores, offsets = self._of(images, sweep_ops.region_samples, masks)
        return {"negatives": negatives, "scores": scores, "areas": offsets.diff(), "saturations": counts}

    def _named(self, areas: Tensor) -> dict[float, Tensor]:
        return dict(zip(self.limits, areas.unbind(), strict=True))


class AUROC(_ModedMetric):
    """:func:`thfr_ext.auroc` of all batches, of image scores or of maps and masks: to the bit, or in bounded
    memory (see the module). Arguments: as of :class:`AUPRO`, without the limit."""

    _exact_names = ("negatives", "positives")
    _bounded_names = ("negatives", "positives", "shares")
    _sketches: ClassVar = {"negatives": False, "positives": False}
    _classes: ClassVar = {"positive": "positives", "negative": "negatives"}
    limits = (1.0,)

    def update(self, scores: Any, labels: Any) -> None:
        """Take in scores of any shape and labels (bool, or 0 and 1) of the same.

        Raises:
            ValueError, TypeError: as :func:`thfr_ext.auroc`, for shapes, dtypes, devices and NaN.
        """
        self._add(self._sample(scores, labels))

    def _sample(self, scores: Any, labels: Any) -> dict[str, Tensor]:
        values, marks = scores_and_labels("AUROC", scores, labels)
        _require_numbers("AUROC", "scores", [values])
        values = values.to(torch.float64 if values.dtype == torch.float64 else torch.float32)
        return {"negatives": values[~marks], "positives": values[marks]}

    def _value(self, samples: dict[str, Tensor]) -> Tensor:
        scores = torch.cat([samples["negatives"], samples["positives"]])
        labels = torch.arange(len(scores), device=scores.device) >= len(samples["negatives"])
        return sweep_ops.auroc(scores, labels).unsqueeze(0)

    def _kept(self, samples: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.exact:
            return samples
        return {**samples, "shares": torch.zeros(2, dtype=torch.float64, device=self._device)}

    def _total(self, state: State) -> float:
        return float(state["positives"][0][2].sum())
