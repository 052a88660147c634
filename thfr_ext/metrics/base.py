"""The interface of torchmetrics over lists of tensors: what all metrics of :mod:`thfr_ext.metrics` share."""

from __future__ import annotations

import copy
import inspect
import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

#: name of a state -> its tensors
State = dict[str, list[Tensor]]


class Metric(torch.nn.Module, ABC):
    """A metric whose state is one list of tensors a name: an update appends to each, :meth:`_compact` makes
    them few. Merging joins the lists."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    #: what torchmetrics' MetricCollection shares between metrics of one state: nothing here
    _defaults: ClassVar[dict[str, Any]] = {}
    _names: tuple[str, ...]
    #: classes without which there is no value, in words -> the samples that show them
    _classes: ClassVar[dict[str, str]]
    _areas: int = 1
    _error_bound: Any

    def __init__(self, *, process_group: Any = None, sync_on_compute: bool = True) -> None:
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

    @abstractmethod
    def update(self, *args: Any) -> None:
        """Take in one batch."""

    @abstractmethod
    def _sample(self, *args: Any) -> dict[str, Tensor]:
        """The samples of one batch."""

    @abstractmethod
    def _value(self, samples: dict[str, Tensor]) -> Tensor:
        """The areas [L] of a batch of which no class is absent."""

    def _named(self, areas: Tensor) -> Any:
        """Areas [L] as users get them."""
        return areas[0]

    # what its memory defines

    @abstractmethod
    def _kept(self, samples: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the state keeps of a batch."""

    @abstractmethod
    def _compact(self, state: State, whole: bool = False) -> None:
        """Make ``state`` small, in place; if ``whole``, one tensor a name."""

    @abstractmethod
    def _bounds(self, state: State) -> Tensor:
        """The lowest and highest areas [2,L] of a state.

        Raises:
            ValueError: a class of samples is absent.
        """

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

    @property
    def state_bytes(self) -> int:
        """Bytes of all tensors of the state."""
        return sum(t.numel() * t.element_size() for tensors in self._state.values() for t in tensors)

    def _add(self, samples: dict[str, Tensor]) -> None:
        for name, tensor in self._kept(samples).items():
            self._state[name].append(tensor.to(self._device))
        self._compact(self._state)
        self._update_count += 1

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Take in a batch and return the exact value of the batch alone: NaN if it has none, e.g. no
        region."""
        samples = self._sample(*inspect.signature(type(self).update).bind(self, *args, **kwargs).args[1:])
        self._add(samples)
        if all(len(samples[name]) for name in self._classes.values()):
            return self._named(self._value(samples))
        return self._named(torch.full((self._areas,), torch.nan, dtype=torch.float64, device=self._device))

    def compute(self) -> Any:
        """The value of all batches (of all processes).

        Raises:
            ValueError: no batch yet, no anomalous region (or positive), no pixel outside of regions (or
                negative).
        """
        low, high = self._area_bounds()
        self._error_bound = self._named((high - low) / 2)
        return self._named((low + high) / 2)

    def bounds(self) -> tuple[Any, Any]:
        """The lowest and the highest value that what is kept allows: the exact value lies between. Both are
        the exact value in exact mode.

        Raises:
            ValueError: as :meth:`compute`.
        """
        low, high = self._area_bounds()
        return self._named(low), self._named(high)

    @property
    def error_bound(self) -> Any:
        """How far the last :meth:`compute` may be from the exact value, in the form of its result (0 in
        exact mode); None before."""
        return self._error_bound

    def _area_bounds(self) -> Tensor:
        states = self._gather()
        if not any(state[self._names[0]] for state in states):
            raise ValueError(f"{type(self).__name__}: compute: expected at least one update before, got none")
        if len(states) == 1:
            return self._bounds(states[0])
        return self._bounds({name: [t for state in states for t in state[name]] for name in self._names})

    def reset(self) -> None:
        self._state = {name: [] for name in self._names}
        self._update_count = 0
        self._error_bound = None

    def merge_state(self, incoming_state: Metric | State) -> None:
        """Take in all that another metric of this class (or its ``metric_state``) holds."""
        if isinstance(incoming_state, Metric):
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
        if any(t.dtype == torch.uint8 for name in self._names for t in state[name]):
            raise ValueError(
                f"{type(self).__name__}: merge_state: expected scores, got packed ones (of thfr-ext 0.1), "
                "which are no longer read: update the metric again"
            )
        for name in self._names:
            self._state[name].extend(t.to(self._device) for t in list(state[name]))
        self._compact(self._state)
        self._update_count += count

    def clone(self) -> Any:
        return copy.deepcopy(self)

    def persistent(self, mode: bool = False) -> None:
        """Whether ``state_dict`` holds the state; as in torchmetrics, it does not unless told to."""
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
            self._compact(self._state, whole=True)
            for name, tensors in self._state.items():
                destination[prefix + name] = tensors[0]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if prefix + self._names[0] in state_dict:
            self.reset()
            self.merge_state({name: [state_dict.pop(prefix + name)] for name in self._names})
