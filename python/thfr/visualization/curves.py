"""PRO and sPRO curves of a data set's test images, as few points as a drawing needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thfr.data import Dataset, Sample
from thfr.data.base import GOOD
from thfr.evaluation.region import within
from thfr.io import Region
from thfr_ext import pro_curve, spro_curve

SPRO_LIMIT = 0.05
"""The false-positive rate up to which the supplement (section 6.2) takes the area under the sPRO curve."""
_POINTS = 300

Points = tuple[np.ndarray, np.ndarray]  # false-positive rates and overlaps, float64 [K] each, ascending


@dataclass(frozen=True)
class OverlapCurves:
    """Curves of one measure. ``name``: PRO or sPRO; ``limit``: the rate up to which its area counts."""

    name: str
    limit: float
    curves: dict[str, Points]
    """By the kind of anomaly that is scored together with all good images, or ``all regions``."""


def overlap_curves(
    dataset: Dataset, maps: Mapping[Sample, np.ndarray], region: Region | None = None
) -> list[OverlapCurves]:
    """The curves of the data set's protocol, exact at every point: PRO, and for MVTec LOCO AD sPRO by kind.

    All maps are in memory at once, as for :func:`thfr.evaluation.evaluate_maps`. There are none without
    masks.

    Args:
        maps: the test images' maps, float32 [H,W] at native size.
        region: of interest, as for :func:`thfr.evaluation.evaluate_maps`.
    """
    limit = dataset.PRO_LIMIT
    if not dataset.has_masks:
        return []
    loco = dataset.PROTOCOL == "mvtec_loco"
    if not loco and region is None:
        fpr, overlap, _ = pro_curve(
            [maps[sample] for sample in dataset.test], [dataset.mask(sample) for sample in dataset.test]
        )
        return [OverlapCurves("PRO", limit, {"all regions": thinned(fpr, overlap, limit)})]
    held = {sample: (maps[sample], dataset.regions(sample)) for sample in dataset.test}
    if region is not None:
        held = {
            sample: within(*both, region.scaled((both[0].shape[0], both[0].shape[1])))
            for sample, both in held.items()
        }

    def curve(samples: Sequence[Sample], saturated: bool, limit: float) -> Points:
        chosen = [held[sample] for sample in samples]
        areas = [tuple(int(mask.sum()) for mask in regions.masks) for _, regions in chosen]
        fpr, overlap, _ = spro_curve(
            [anomaly_map for anomaly_map, _ in chosen],
            [regions.masks for _, regions in chosen],
            [regions.saturations for _, regions in chosen] if saturated else areas,
        )
        return thinned(fpr, overlap, limit)

    pro = OverlapCurves("PRO", limit, {"all regions": curve(dataset.test, False, limit)})
    if not loco:
        return [pro]
    kinds = {
        kind: [sample for sample in dataset.test if sample.kind in (GOOD, kind)] for kind in dataset.kinds
    }
    return [
        pro,
        OverlapCurves(
            "sPRO", SPRO_LIMIT, {kind: curve(samples, True, SPRO_LIMIT) for kind, samples in kinds.items()}
        ),
    ]


def thinned(
    fpr: np.ndarray,  # float64 [K], ascending
    overlap: np.ndarray,  # float64 [K]
    limit: float,
) -> Points:
    """Some of the points of a curve: evenly spread up to twice the limit and beyond, the first and the last
    among them.
    """
    wanted = np.concatenate([np.linspace(0, min(2 * limit, 1), _POINTS), np.linspace(0, 1, _POINTS)])
    indices = np.unique(np.minimum(np.searchsorted(fpr, np.sort(wanted)), len(fpr) - 1))
    # where the curve leaves the axis, too: regions above all negatives make it rise straight up
    indices = np.union1d(indices, [0, np.searchsorted(fpr, fpr[0], side="right") - 1, len(fpr) - 1])
    return np.asarray(fpr)[indices], np.asarray(overlap)[indices]
