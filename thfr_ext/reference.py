"""Plain PyTorch twins of the operators: the specification in code, for tests and, so far, for CUDA."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from thfr_ext._blur import dense_gaussian
from thfr_ext._tensor import accumulate_dtype


def _scaled(features: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors over their largest magnitude, so that no square over- or underflows, and it [B,1,H,W]."""
    x = features.to(accumulate_dtype(features.dtype))
    if x.shape[1] == 0:
        return x, x.new_ones((x.shape[0], 1, *x.shape[2:]))
    most = x.abs().amax(1, keepdim=True)
    most = torch.where(most > 0, most, 1)
    return x / most, most


def cosine_distance(
    features: Tensor,  # [B,C,H,W]
    restored: Tensor,  # [B,C,H,W]
    eps: float = 1e-8,
) -> Tensor:  # [B,H,W]
    """See :func:`thfr_ext.cosine_distance`."""
    (x, x_most), (y, y_most) = _scaled(features), _scaled(restored)
    norm = x.square().sum(1).sqrt() * y.square().sum(1).sqrt()
    least = torch.maximum(norm, (eps / x_most / y_most).squeeze(1))
    cosine = torch.where(norm == 0, 0, (x * y).sum(1) / least)
    return (1 - cosine).clamp(0, 2)


def cosine_distance_backward(
    grad_distance: Tensor,  # [B,H,W]
    features: Tensor,  # [B,C,H,W]
    restored: Tensor,  # [B,C,H,W]
    eps: float,
    need_features: bool,
    need_restored: bool,
) -> tuple[Tensor, Tensor]:
    """See ``torch.ops.thfr_ext.cosine_distance_backward``."""
    (x, x_most), (y, y_most) = _scaled(features), _scaled(restored)
    x_norm, y_norm = x.square().sum(1, keepdim=True).sqrt(), y.square().sum(1, keepdim=True).sqrt()
    norm, least = x_norm * y_norm, eps / x_most / y_most
    clamped, zero = norm < least, norm == 0
    cosine = (x * y).sum(1, keepdim=True) / norm
    grad = grad_distance.unsqueeze(1)

    def gradient(
        like: Tensor, own: Tensor, own_norm: Tensor, most: Tensor, other: Tensor, other_norm: Tensor
    ) -> Tensor:
        free = -grad * (other / other_norm - cosine * (own / own_norm)) / own_norm / most
        bound = -grad * other / least / most
        return torch.empty_like(like).copy_(torch.where(zero, 0, torch.where(clamped, bound, free)))

    grad_x = gradient(features, x, x_norm, x_most, y, y_norm) if need_features else features.new_empty(0)
    grad_y = gradient(restored, y, y_norm, y_most, x, x_norm) if need_restored else restored.new_empty(0)
    return grad_x, grad_y


def anomaly_map(
    features: Sequence[Tensor],  # levels of [B,C_k,h_k,w_k]
    restored: Sequence[Tensor],  # like features
    size: Sequence[int],  # (H, W)
    sigma: float = 4.0,
    combine: str = "sum",
    weights: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:  # [B,H,W] fp32, [B] fp32
    """See :func:`thfr_ext.anomaly_map`."""
    height, width = size
    total: Tensor | None = None
    for x, y, weight in zip(features, restored, weights or [1.0] * len(features), strict=True):
        # fp64, since fp32 would round the positions that are sampled.
        distance = cosine_distance(x, y).double().unsqueeze(1)
        level = interpolate(distance, (height, width), mode="bilinear", align_corners=False).squeeze(1)
        if combine == "sum":
            total = weight * level if total is None else total + weight * level
        else:
            total = level**weight if total is None else total * level**weight
    assert total is not None  # there is a level
    if sigma > 0:
        rows = dense_gaussian(height, sigma, total.dtype, total.device)
        columns = dense_gaussian(width, sigma, total.dtype, total.device)
        total = rows @ total @ columns.T
    total = total.float()
    return total, total.amax((1, 2))


def _require_finite(operator: str, argument: str, rows: Tensor) -> None:
    bad = ~rows.isfinite().all(1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        kind = "NaN" if bool(rows[row].isnan().any()) else "infinity"
        raise ValueError(
            f"{operator}: {argument}: expected finite values, got {kind} in row {row} of {list(rows.shape)}"
        )


def _pair_scores(queries: Tensor, bank: Tensor, metric: str) -> Tensor:
    """Scores of fp64 rows [Q,D] and [N,D]: each pair summed alike, so that equal rows tie."""
    if metric == "l2":
        return torch.cdist(queries, bank, compute_mode="donot_use_mm_for_euclid_dist")
    dots = (queries[:, None] * bank[None]).sum(-1)
    if metric == "dot":
        return dots + 0.0
    norms = queries.square().sum(1).sqrt()[:, None] * bank.square().sum(1).sqrt()
    return torch.where(norms > 0, dots / norms, 0.0).clamp(-1, 1) + 0.0


def nearest_templates(
    queries: Tensor,  # [Q,D]
    bank: Tensor,  # [N,D]
    k: int = 1,
    metric: str = "cosine",
    exclude: Tensor | None = None,  # [Q] int64
) -> tuple[Tensor, Tensor]:  # [Q,k], [Q,k] int64
    """See :func:`thfr_ext.nearest_templates`."""
    _require_finite("nearest_templates", "queries", queries)
    _require_finite("nearest_templates", "bank", bank)
    dtype, descending = accumulate_dtype(queries.dtype), metric != "l2"
    count = queries.shape[0]
    scores = queries.new_empty((count, 0), dtype=dtype)
    indices = queries.new_empty((count, 0), dtype=torch.int64)
    step = max(1, 2**24 // max(1, count * queries.shape[1]))
    for start in range(0, bank.shape[0], step):
        part = _pair_scores(queries.double(), bank[start : start + step].double(), metric).to(dtype)
        rows = torch.arange(start, start + part.shape[1], device=part.device).expand(count, -1)
        if exclude is not None:
            part = part.masked_fill(rows == exclude[:, None], float("nan"))
        scores, indices = torch.cat([scores, part], 1), torch.cat([indices, rows], 1)
        # Stable: earlier rows come first among equals. Excluded rows go to the end whatever the scores.
        order = scores.sort(dim=1, descending=descending, stable=True).indices
        order = order.gather(1, scores.gather(1, order).isnan().sort(dim=1, stable=True).indices)[:, :k]
        scores, indices = scores.gather(1, order), indices.gather(1, order)
    return scores, indices


def first_coreset_index(rows: int, seed: int) -> int:
    """``splitmix64(seed) mod rows``: the first step of the generator of Steele, Lea and Flood (2014)."""
    word = 2**64 - 1
    z = (seed + 0x9E3779B97F4A7C15) & word
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
    return (z ^ (z >> 31)) % rows


def greedy_coreset(
    bank: Tensor,  # [N,D]
    size: int,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Tensor:  # [size] int64
    """See :func:`thfr_ext.greedy_coreset`."""
    _require_finite("greedy_coreset", "bank", bank)
    rows = bank.double()
    newest = torch.tensor(first_coreset_index(bank.shape[0], seed), device=bank.device)
    nearest = rows.new_full((bank.shape[0],), float("inf"))
    chosen = [newest]
    for done in range(1, size):
        nearest = torch.minimum(nearest, (rows - rows[newest]).square().sum(1))
        nearest[newest] = -1.0
        newest = nearest.argmax()
        chosen.append(newest)
        if progress is not None and (done + 1) % 64 == 0:
            progress(done + 1, size)
    if progress is not None:
        progress(size, size)
    return torch.stack(chosen)


def label_regions(masks: Tensor) -> tuple[Tensor, Tensor]:  # [N,H,W] bool -> [N,H,W] int64, [N] int64
    """See :func:`thfr_ext.label_regions`. Pixels take their neighbourhood's lowest number to the end."""
    n, h, w = masks.shape
    numbers = torch.arange(1, h * w + 1, device=masks.device, dtype=torch.float64).reshape(1, h, w)
    outside = float(h * w + 1)
    lowest = torch.where(masks, numbers, outside)
    while n * h * w:
        grown = -torch.nn.functional.max_pool2d(-lowest.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
        grown = torch.where(masks, grown, outside)
        if torch.equal(grown, lowest):
            break
        lowest = grown
    labels, counts = masks.new_zeros((n, h, w), dtype=torch.int64), masks.new_zeros(n, dtype=torch.int64)
    for i in range(n):
        firsts, inverse = lowest[i][masks[i]].unique(return_inverse=True)
        labels[i][masks[i]] = inverse + 1
        counts[i] = len(firsts)
    return labels, counts


def sample_regions(maps: Sequence[Tensor], regions: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Negative scores [n], scores of the regions' pixels [p], region after region, and their offsets [R+1].

    Args:
        maps: [H,W] each.
        regions: [R_i,H,W] bool each.
    """
    negatives = torch.cat([m[~r.any(0)] for m, r in zip(maps, regions, strict=True)])
    scores = [m[region] for m, r in zip(maps, regions, strict=True) for region in r]
    areas = torch.tensor([0, *(s.numel() for s in scores)], dtype=torch.int64, device=negatives.device)
    wide = torch.float64 if negatives.dtype == torch.float64 else torch.float32
    return negatives.to(wide), torch.cat([negatives[:0], *scores]).to(wide), areas.cumsum(0)


def _tops(scores: Tensor, offsets: Tensor, saturations: Tensor) -> tuple[Tensor, Tensor]:
    """The ``saturations[r]`` highest scores of each region r, and the region of each."""
    tops = [
        scores[begin:end].topk(min(s, end - begin), sorted=False).values
        for begin, end, s in zip(
            offsets[:-1].tolist(), offsets[1:].tolist(), saturations.tolist(), strict=True
        )
    ]
    counts = torch.tensor([len(t) for t in tops], device=scores.device)
    return torch.cat(tops), torch.arange(len(tops), device=scores.device).repeat_interleave(counts)


def spro_area(
    negatives: Tensor,  # [n]
    scores: Tensor,  # [p]
    offsets: Tensor,  # [R+1] int64
    saturations: Tensor,  # [R] int64
    limits: Sequence[float],
) -> Tensor:  # [L] fp64
    """See ``thfr::spro_area`` in csrc/include/thfr/sweep.h: the formula, a tensor operation at a time."""
    tops, region = _tops(scores, offsets, saturations)
    order = negatives.sort().values
    above = len(order) - torch.searchsorted(order, tops, right=True)
    equal = len(order) - above - torch.searchsorted(order, tops)
    areas = []
    for limit in limits:
        # Per-region sums are of integers: their order does not matter, so they are repeatable on a GPU too.
        kept = limit * len(order)
        full = above + equal <= kept
        cut = ~full & (above < kept)
        counted = (full, full * (2 * above + equal), cut)
        sums = [torch.zeros_like(saturations).index_add(0, region, x.long()).double() for x in counted]
        pixels, twice, cuts = sums
        step = (kept - above.double()).square() / (2 * equal.clamp_min(1)).double()
        piece = torch.where(cut, step, 0).max()  # one value is cut, all its pixels alike
        area = pixels * kept - twice / 2 + cuts * piece
        areas.append((area / (saturations.double() * kept)).clamp(0, 1).sort().values.mean())
    return torch.stack(areas)


def spro_curve(
    negatives: Tensor,  # [n]
    scores: Tensor,  # [p]
    offsets: Tensor,  # [R+1] int64
    saturations: Tensor,  # [R] int64
) -> tuple[Tensor, Tensor, Tensor]:  # [K+1] fp64, [K+1] fp64, [K+1] of the scores' dtype
    """See :func:`thfr_ext.spro_curve`: counts at each distinct score, added up from the highest."""
    thresholds, place = (torch.cat([negatives, scores]) + 0.0).unique(return_inverse=True)
    false = torch.zeros(len(thresholds), dtype=torch.float64, device=scores.device)
    false = false.index_add(0, place[: len(negatives)], torch.ones_like(negatives, dtype=torch.float64))
    tops, region = _tops(scores, offsets, saturations)
    at = torch.searchsorted(thresholds, tops)
    true = torch.zeros_like(false).index_add(0, at, 1 / saturations[region].double())
    zero = false.new_zeros(1)
    fpr = torch.cat([zero, false.flip(0).cumsum(0)]) / len(negatives)
    overlap = torch.cat([zero, true.flip(0).cumsum(0)]) / len(saturations)
    return fpr, overlap.clamp_max(1), torch.cat([thresholds.flip(0), thresholds.new_full((1,), -torch.inf)])


def auroc(scores: Tensor, labels: Tensor) -> Tensor:  # [n], [n] bool -> [] fp64
    """See :func:`thfr_ext.auroc`: pairs in which the positive is higher, ties half."""
    negatives = scores[~labels].sort().values
    positives = scores[labels]
    below = torch.searchsorted(negatives, positives)
    not_above = torch.searchsorted(negatives, positives, right=True)
    return (below + not_above).sum().double() / (2 * len(positives) * len(negatives))


def curve_by_thresholds(
    maps: Sequence[Tensor],  # [H,W] each
    regions: Sequence[Tensor],  # [R_i,H,W] bool each
    saturations: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:  # [K+1] fp64 each
    """The definition itself, for tests: a loop over every distinct score, in float64."""
    negatives, scores, offsets = sample_regions([m.double() for m in maps], list(regions))
    region = torch.arange(len(saturations)).repeat_interleave(offsets.diff())
    thresholds = torch.cat([m.double().flatten() for m in maps]).unique().flip(0).tolist()
    rates: list[float] = []
    overlaps: list[float] = []
    for threshold in [*thresholds, None]:  # None takes in everything
        above = torch.ones_like(negatives) if threshold is None else negatives > threshold
        inside = region if threshold is None else region[scores > threshold]
        counts = torch.bincount(inside, minlength=len(saturations)).tolist()
        rates.append(int(above.sum()) / len(negatives))
        covered = math.fsum(min(k / s, 1) for k, s in zip(counts, saturations, strict=True))
        overlaps.append(covered / len(saturations))
    columns = (rates, overlaps, [*thresholds, -math.inf])
    fpr, overlap, descending = (torch.tensor(column, dtype=torch.float64) for column in columns)
    return fpr, overlap, descending


def area_to_limit(fpr: Tensor, overlap: Tensor, limit: float) -> float:  # [K], [K] fp64
    """Area under straight lines through the points from FPR 0 to ``limit``, divided by ``limit``."""
    area = 0.0
    points = list(zip(fpr.tolist(), overlap.tolist(), strict=True))
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / limit
