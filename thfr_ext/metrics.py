"""Metrics that are fed batch by batch, with the interface of torchmetrics: update, compute, reset, forward,
merge_state.

torchmetrics is not needed. Where the program has imported it, the metrics here count as
``torchmetrics.Metric``, so that ``MetricCollection`` takes them (without a prefix for :class:`AUsPRO`, whose
result has numbers as keys).
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from thfr_ext._sweep_checks import raise_nan
from thfr_ext._sweep_inputs import limit_of, limits_of, maps_and_masks, maps_and_regions, scores_and_labels
from thfr_ext.sweep import LOCO_LIMITS

#: name of a state -> its tensors, one for each update
State = dict[str, list[Tensor]]


class _Metric(torch.nn.Module):
    """Holds the samples that the exact value needs, so that the value does not depend on how they came in
    batches.

    The state is one list of tensors a name, grown by each update. Merging, in any order and across processes,
    gives the same value to the bit as one metric that has seen everything.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    #: what torchmetrics' MetricCollection shares between metrics of one state: nothing here
    _defaults: ClassVar[dict[str, Any]] = {}
    _names: ClassVar[tuple[str, ...]]

    def __init__(self, *, process_group: Any = None, sync_on_compute: bool = True) -> None:
        """
        Args:
            process_group: of torch.distributed, whose metrics ``compute`` joins; default: all processes.
            sync_on_compute: join the metrics of all processes in ``compute`` where torch.distributed is
                initialised.
        """
        super().__init__()
        torchmetrics = sys.modules.get("torchmetrics")
        if torchmetrics is not None:
            torchmetrics.Metric.register(type(self))
        self.process_group = process_group
        self.sync_on_compute = sync_on_compute
        self._device = torch.empty(0).device
        self._persistent = False
        self._state: State = {}
        self.reset()

    # what a metric defines

    def update(self, *args: Any) -> None:
        """Take in one batch."""
        raise NotImplementedError

    def _sample(self, *args: Any) -> dict[str, Tensor]:
        """The samples of one batch."""
        raise NotImplementedError

    def _absent(self, state: dict[str, Tensor]) -> str | None:
        """Which class of samples is absent, so that there is no value."""
        raise NotImplementedError

    def _value(self, state: dict[str, Tensor]) -> Any:
        """The value of samples of which no class is absent."""
        raise NotImplementedError

    def _undefined(self) -> Any:
        """What forward gives for a batch that has no value of its own."""
        return torch.tensor(torch.nan, dtype=torch.float64, device=self._device)

    # torchmetrics' interface

    @property
    def metric_state(self) -> State:
        return self._state

    @property
    def update_count(self) -> int:
        return self._update_count

    @property
    def update_called(self) -> bool:
        return self._update_count > 0

    @property
    def device(self) -> torch.device:
        """Where the state is kept, and the value computed: set by ``.to(device)``."""
        return self._device

    def _add(self, samples: dict[str, Tensor]) -> None:
        for name, tensor in samples.items():
            self._state[name].append(tensor.to(self._device))
        self._update_count += 1

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Take in a batch and return the value of the batch alone: NaN if it has none, e.g. no region."""
        samples = self._sample(*inspect.signature(type(self).update).bind(self, *args, **kwargs).args[1:])
        self._add(samples)
        return self._undefined() if self._absent(samples) else self._value(samples)

    def compute(self) -> Any:
        """The exact value of all batches (of all processes).

        Raises:
            ValueError: no batch yet, no anomalous region (or positive), no pixel outside of regions (or
                negative).
        """
        name, states = type(self).__name__, self._gather()
        if not any(state[self._names[0]] for state in states):
            raise ValueError(f"{name}: compute: expected at least one update before, got none")
        joined = {key: torch.cat([t for state in states for t in state[key]]) for key in self._names}
        absent = self._absent(joined)
        if absent:
            raise ValueError(f"{name}: compute: expected at least one {absent}, got none")
        return self._value(joined)

    def reset(self) -> None:
        self._state = {name: [] for name in self._names}
        self._update_count = 0

    def merge_state(self, incoming_state: _Metric | State) -> None:
        """Take in all that another metric of this class (or its ``metric_state``) holds."""
        if isinstance(incoming_state, _Metric):
            if type(incoming_state) is not type(self):
                raise ValueError(
                    f"{type(self).__name__}: merge_state: expected a {type(self).__name__}, "
                    f"got {type(incoming_state).__name__}"
                )
            count, state = incoming_state.update_count, incoming_state.metric_state
        else:
            count, state = 1, incoming_state
        if set(state) != set(self._names):
            raise ValueError(
                f"{type(self).__name__}: merge_state: expected states {', '.join(self._names)}, "
                f"got {', '.join(state)}"
            )
        for name in self._names:
            self._state[name].extend(t.to(self._device) for t in list(state[name]))
        self._update_count += count

    def clone(self) -> Any:
        return copy.deepcopy(self)

    def persistent(self, mode: bool = False) -> None:
        """Whether ``state_dict`` holds the samples; as in torchmetrics, it does not unless told to."""
        self._persistent = mode

    def _gather(self) -> list[State]:
        distributed = torch.distributed
        if not (self.sync_on_compute and distributed.is_available() and distributed.is_initialized()):
            return [self._state]
        states: list[Any] = [None] * distributed.get_world_size(self.process_group)
        mine = {name: [t.cpu() for t in tensors] for name, tensors in self._state.items()}
        distributed.all_gather_object(states, mine, group=self.process_group)
        return [{name: [t.to(self._device) for t in s[name]] for name in self._names} for s in states]

    def _filter_kwargs(self, **kwargs: Any) -> dict[str, Any]:  # called by MetricCollection
        names = inspect.signature(type(self).update).parameters
        return {name: value for name, value in kwargs.items() if name in names}

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # Follows moves between devices; .half() and the like must not round scores.
        self._device = fn(torch.empty(0, device=self._device)).device
        for name, tensors in self._state.items():
            self._state[name] = [t.to(self._device) for t in tensors]
        return super()._apply(fn, recurse)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self._persistent and self.update_called:
            for name, tensors in self._state.items():
                destination[prefix + name] = torch.cat(tensors)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if prefix + self._names[0] in state_dict:
            self.reset()
            self._add({name: state_dict.pop(prefix + name) for name in self._names})


def _sweep_classes(state: dict[str, Tensor]) -> str | None:
    for name, tensor in {
        "anomalous region": state["areas"],
        "pixel outside of regions": state["negatives"],
    }.items():
        if len(tensor) == 0:
            return name
    return None


def _require_numbers(name: str, argument: str, tensors: Sequence[Tensor]) -> None:
    if any(bool(t.isnan().any()) for t in tensors):
        raise_nan(name, argument, tensors)


def _offsets(areas: Tensor) -> Tensor:
    return torch.nn.functional.pad(areas.cumsum(0), (1, 0))


class AUPRO(_Metric):
    """:func:`thfr_ext.au_pro` of all batches, to the bit. State: all scores, 4 bytes a pixel (8 for fp64
    maps)."""

    _names = ("negatives", "scores", "areas")

    def __init__(self, limit: float = 0.3, **kwargs: Any) -> None:
        """``limit``: FPR in (0, 1]; ``kwargs``: process_group, sync_on_compute."""
        super().__init__(**kwargs)
        self.limit = limit_of("AUPRO", "limit", limit)

    def update(self, maps: Any, masks: Any) -> None:
        """Take in maps [N,H,W] and masks [N,H,W] bool (or sequences of [H,W]); images may be good.

        Raises:
            ValueError, TypeError: as :func:`thfr_ext.au_pro`, for shapes, dtypes, devices and NaN.
        """
        self._add(self._sample(maps, masks))

    def _sample(self, maps: Any, masks: Any) -> dict[str, Tensor]:
        images, marks = maps_and_masks("AUPRO", maps, masks)
        _require_numbers("AUPRO", "maps", images)
        negatives, scores, offsets = torch.ops.thfr_ext.component_samples(images, marks)
        return {"negatives": negatives, "scores": scores, "areas": offsets.diff()}

    def _absent(self, state: dict[str, Tensor]) -> str | None:
        return _sweep_classes(state)

    def _value(self, state: dict[str, Tensor]) -> Tensor:
        areas = state["areas"]
        return torch.ops.thfr_ext.spro_area(
            state["negatives"], state["scores"], _offsets(areas), areas, [self.limit]
        )[0]


class AUsPRO(_Metric):
    """:func:`thfr_ext.au_spro` of all batches, to the bit. State: all scores, 4 bytes a pixel (8 for fp64
    maps)."""

    _names = ("negatives", "scores", "areas", "saturations")

    def __init__(self, limits: Sequence[float] = LOCO_LIMITS, **kwargs: Any) -> None:
        """``limits``: FPRs in (0, 1]; ``kwargs``: process_group, sync_on_compute."""
        super().__init__(**kwargs)
        self.limits = limits_of("AUsPRO", limits)

    def update(self, maps: Any, regions: Any, saturations: Any) -> None:
        """Take in maps, regions and saturations as of :func:`thfr_ext.au_spro`; images may be good.

        Raises:
            ValueError, TypeError: as :func:`thfr_ext.au_spro`, for shapes, dtypes, devices and NaN.
        """
        self._add(self._sample(maps, regions, saturations))

    def _sample(self, maps: Any, regions: Any, saturations: Any) -> dict[str, Tensor]:
        images, masks, counts = maps_and_regions("AUsPRO", maps, regions, saturations)
        _require_numbers("AUsPRO", "maps", images)
        negatives, scores, offsets = torch.ops.thfr_ext.region_samples(images, masks)
        return {"negatives": negatives, "scores": scores, "areas": offsets.diff(), "saturations": counts}

    def _absent(self, state: dict[str, Tensor]) -> str | None:
        return _sweep_classes(state)

    def _value(self, state: dict[str, Tensor]) -> dict[float, Tensor]:
        areas = torch.ops.thfr_ext.spro_area(
            state["negatives"], state["scores"], _offsets(state["areas"]), state["saturations"], self.limits
        )
        return dict(zip(self.limits, areas.unbind(), strict=True))

    def _undefined(self) -> dict[float, Tensor]:
        return dict.fromkeys(self.limits, super()._undefined())


class AUROC(_Metric):
    """:func:`thfr_ext.auroc` of all batches, to the bit: of image scores, or of maps and masks. 5 bytes a
    score."""

    _names = ("scores", "labels")

    def update(self, scores: Any, labels: Any) -> None:
        """Take in scores of any shape and labels (bool, or 0 and 1) of the same.

        Raises:
            ValueError, TypeError: as :func:`thfr_ext.auroc`, for shapes, dtypes, devices and NaN.
        """
        self._add(self._sample(scores, labels))

    def _sample(self, scores: Any, labels: Any) -> dict[str, Tensor]:
        values, marks = scores_and_labels("AUROC", scores, labels)
        _require_numbers("AUROC", "scores", [values])
        return {"scores": values.reshape(-1).clone(), "labels": marks.reshape(-1).clone()}

    def _absent(self, state: dict[str, Tensor]) -> str | None:
        positives = int(state["labels"].count_nonzero())
        return {0: "positive", len(state["labels"]): "negative"}.get(positives)

    def _value(self, state: dict[str, Tensor]) -> Tensor:
        return torch.ops.thfr_ext.auroc(state["scores"], state["labels"])


__all__ = ["AUPRO", "AUROC", "AUsPRO"]
