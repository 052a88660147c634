"""Areas and curves from the scores of regions' pixels, whoever collects these and adds them up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from thfr_ext.sweep.checks import (
    Points,
    Samples,
    Tensors,
    require_negatives,
    require_regions,
    require_samples,
)

_Spro = tuple[Tensor, Tensor, Tensor, Tensor]  # negatives, scores, offsets, saturations


@dataclass(frozen=True)
class FromSamples:
    """The operators of PRO and sPRO over functions that take the operator's name first, for their errors."""

    of_components: Callable[[str, Tensors, Tensors], Samples]  # maps [H,W], masks bool [H,W]
    of_regions: Callable[[str, Tensors, Tensors, Tensor | None], Samples]  # regions bool [R,H,W]; saturations
    areas: Callable[[Tensor, Tensor, Tensor, Tensor, Sequence[float]], Tensor]
    curve: Callable[[Tensor, Tensor, Tensor, Tensor], Points]

    def _pro(self, name: str, maps: Tensors, masks: Tensors) -> _Spro:
        negatives, scores, offsets = self.of_components(name, maps, masks)
        require_regions(name, "masks", len(offsets) - 1, len(maps))
        require_negatives(name, "masks", len(negatives))
        return negatives, scores, offsets, offsets.diff()

    def _spro(self, name: str, maps: Tensors, regions: Tensors, saturations: Tensor) -> _Spro:
        require_regions(name, "regions", len(saturations), len(maps))
        negatives, scores, offsets = self.of_regions(name, maps, regions, saturations)
        require_negatives(name, "regions", len(negatives))
        return negatives, scores, offsets, saturations

    def component_samples(self, maps: Tensors, masks: Tensors) -> Samples:
        """See ``torch.ops.thfr_ext.component_samples``."""
        return self.of_components("component_samples", maps, masks)

    def region_samples(self, maps: Tensors, regions: Tensors) -> Samples:
        """See ``torch.ops.thfr_ext.region_samples``."""
        return self.of_regions("region_samples", maps, regions, None)

    def au_pro(self, maps: Tensors, masks: Tensors, limit: float) -> Tensor:  # [] fp64
        """See :func:`thfr_ext.au_pro`."""
        return self.areas(*self._pro("au_pro", maps, masks), [limit])[0]

    def pro_curve(self, maps: Tensors, masks: Tensors) -> Points:
        """See :func:`thfr_ext.pro_curve`."""
        return self.curve(*self._pro("pro_curve", maps, masks))

    def au_spro(
        self, maps: Tensors, regions: Tensors, saturations: Tensor, limits: Sequence[float]
    ) -> Tensor:  # [L] fp64
        """See :func:`thfr_ext.au_spro`."""
        return self.areas(*self._spro("au_spro", maps, regions, saturations), limits)

    def spro_curve(self, maps: Tensors, regions: Tensors, saturations: Tensor) -> Points:
        """See :func:`thfr_ext.spro_curve`."""
        return self.curve(*self._spro("spro_curve", maps, regions, saturations))

    def spro_area(
        self,
        negatives: Tensor,  # [n]
        scores: Tensor,  # [p]
        offsets: Tensor,  # [R+1] int64
        saturations: Tensor,  # [R] int64
        limits: Sequence[float],
    ) -> Tensor:  # [L] fp64
        """See ``torch.ops.thfr_ext.spro_area``: the areas of :func:`au_spro` from samples taken before."""
        require_samples(negatives, scores, offsets, saturations)
        return self.areas(negatives, scores, offsets, saturations, limits)
