# Types of the native module (csrc/bindings). Not public.
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_View = tuple[int, int, tuple[int, ...], tuple[int, ...]]
_Search = tuple[_View, _View, _View, int, _View, _View]
_Lists = tuple[_View, _View]
_Level = tuple[_View, _View, int, _View, _View, _View, _View, float]

blocked_width: int  # columns of a block of the up-sampling matrices

def build_info() -> dict[str, Any]: ...
def cuda_devices() -> dict[str, Any]: ...

# scoring
def cosine_distance(features: _View, restored: _View, eps: float, distance: _View, threads: int) -> None: ...
def cosine_distance_backward(
    grad_distance: _View,
    features: _View,
    restored: _View,
    eps: float,
    grad_features: _View,
    grad_restored: _View,
    threads: int,
) -> None: ...
def blend_levels(
    levels: Sequence[tuple[_View, _View, _View, _View, _View, float]],
    product: bool,
    map: _View,
    score: _View,
    threads: int,
) -> None: ...

# only in a build with CUDA: the device of the next launches of this thread
def cuda_set_device(index: int) -> None: ...

# scoring, only in a build with CUDA
def cuda_cosine_distances(
    levels: Sequence[tuple[_View, _View, _View]], eps: float, scores: _View, stream: int
) -> None: ...
def cuda_cosine_distance_backward(
    grad_distance: _View,
    features: _View,
    restored: _View,
    eps: float,
    grad_features: _View,
    grad_restored: _View,
    stream: int,
) -> None: ...
def cuda_anomaly_map(
    pairs: Sequence[tuple[_View, _View, _View]],
    eps: float,
    levels: Sequence[_Level],
    product: bool,
    sharp: _View,
    blur: Sequence[_Level],
    map: _View,
    scores: _View,
    stream: int,
) -> None: ...
def cuda_blend_levels(
    levels: Sequence[_Level],
    product: bool,
    map: _View,
    scores: _View,
    stream: int,
) -> None: ...

# retrieval
def nearest_templates(
    queries: _View,
    bank: _View,
    k: int,
    metric: int,
    exclude: _View | None,
    scores: _View,
    indices: _View,
    threads: int,
) -> None: ...
def coreset_scale(bank: _View, threads: int) -> float: ...
def greedy_coreset(
    bank: _View, scale: float, distances: _View, chosen: _View, begin: int, end: int, threads: int
) -> None: ...

# retrieval on a GPU, only in a build with CUDA: csrc/include/thfr/retrieval_cuda.h.
# _Search: queries, metadata, bank, metric, exclude, bad. _Lists: keys, rows.
def cuda_describe_queries(queries: _View, metadata: _View, stream: int) -> None: ...
def cuda_bank_strips(queries: int, rows: int, width: int) -> int: ...
def cuda_search_bank(search: _Search, lists: _Lists, stream: int) -> None: ...
def cuda_pair_costs(search: _Search, first: int, costs: _View, stream: int) -> None: ...
def cuda_pack_rows(
    rows: _View,
    parts: int,
    is_bank: bool,
    metric: int,
    operands: _View,
    gains: _View,
    bad: _View,
    stream: int,
) -> None: ...
def cuda_select_strips(queries: int, rows: int) -> int: ...
def cuda_select_rows(
    search: _Search,
    products: _View,
    query_gains: _View,
    bank_gains: _View,
    slack: float,
    first: int,
    lists: _Lists,
    stream: int,
) -> None: ...
def cuda_conclude(search: _Search, lists: _Lists, scores: _View, indices: _View, stream: int) -> None: ...
def cuda_largest_magnitude(bank: _View, largest: _View, stream: int) -> None: ...
def cuda_coreset_blocks(rows: int, width: int) -> int: ...
def cuda_greedy_coreset(
    bank: _View,
    largest: _View,
    first: int,
    distances: _View,
    farthest: _Lists,
    chosen: _View,
    begin: int,
    end: int,
    stream: int,
) -> None: ...

# sweep
def label_regions(masks: _View, labels: _View, counts: _View, threads: int) -> None: ...
def region_areas(regions: _View, areas: _View, threads: int) -> None: ...
def component_scores(
    maps: Sequence[_View], masks: Sequence[_View], scores: _View, offsets: _View, threads: int
) -> int: ...
def region_scores(
    maps: Sequence[_View],
    regions: Sequence[_View],
    offsets: _View,
    scores: _View,
    covered: Sequence[_View],
    threads: int,
) -> None: ...
def sweep_figures(
    maps: Sequence[_View],
    covered: Sequence[_View],
    image_groups: _View,
    groups: int,
    scores: _View,
    offsets: _View,
    region_groups: _View,
    questions: Sequence[tuple[int, _View, _View, _View]],
    threads: int,
) -> tuple[int, list[int], int, float]: ...
def spro_area(
    maps: Sequence[_View],
    covered: Sequence[_View],
    scores: _View,
    offsets: _View,
    saturations: _View,
    limits: _View,
    areas: _View,
    threads: int,
) -> tuple[Any, ...]: ...
def spro_curve(
    maps: Sequence[_View],
    covered: Sequence[_View],
    scores: _View,
    offsets: _View,
    saturations: _View,
    threads: int,
) -> tuple[tuple[Any, ...], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
def auroc(scores: _View, labels: _View, threads: int) -> tuple[tuple[Any, ...], float]: ...
def negative_scores(
    maps: Sequence[_View], masks: Sequence[_View], counts: _View, scores: _View, threads: int
) -> int: ...

# metrics
def merge_bins(
    sketches: Sequence[_View], scores: _View, most: int, share: float, relative: bool, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], float]: ...
def bins_area(negatives: _View, positives: _View, total: float, limits: _View, bounds: _View) -> None: ...

# sweep on a GPU, only in a build with CUDA: csrc/include/thfr/sweep_cuda.h. Views of int32 come as float32.
def cuda_sweep_chunks(pixels: int) -> int: ...
def cuda_covered_bytes(pixels: int, regions: int) -> int: ...
def cuda_sweep_segments() -> int: ...
def cuda_count_marks(regions: Sequence[_View], covered: _View, counts: _View, stream: int) -> None: ...
def cuda_find_offsets(
    regions: Sequence[_View], sums: _View, saturations: _View, offsets: _View, summary: _View, stream: int
) -> None: ...
def cuda_find_roots(masks: Sequence[_View], links: _View, counts: _View, stream: int) -> None: ...
def cuda_number_roots(
    masks: Sequence[_View], links: _View, sums: _View, labels: _View, stream: int
) -> None: ...
def cuda_collect_scores(
    maps: Sequence[_View],
    marks: Sequence[_View],
    sums: _View,
    marked: bool,
    as_keys: bool,
    labels: Sequence[_View],
    scores: _View,
    region: _View,
    flag: _View,
    stream: int,
) -> None: ...
def cuda_make_keys(scores: _View, keys: _View, stream: int) -> None: ...
def cuda_flag_changes(keys: _View, changes: _View, stream: int) -> None: ...
def cuda_flag_used(
    place: _View,
    region: _View,
    offsets: _View,
    saturations: _View,
    rank: _View,
    used: _View,
    stream: int,
) -> None: ...
def cuda_make_values(
    keys: _View, rank: _View, used: _View, values: _View, sizes: _View, stream: int
) -> None: ...
def cuda_make_table(
    rank: _View, used: _View, values: _View, ends: _View, table: _View, stream: int
) -> None: ...
def cuda_count_scores(
    maps: Sequence[_View],
    marks: Sequence[_View],
    marked: bool,
    rank: _View,
    used: _View,
    values: _View,
    ends: _View,
    table: _View,
    bins: _View,
    flag: _View,
    stream: int,
) -> None: ...
def cuda_double_ranks(
    place: _View,
    region: _View,
    offsets: _View,
    saturations: _View,
    rank: _View,
    used: _View,
    sums: _View,
    twice: _View,
    stream: int,
) -> None: ...
def cuda_share_areas(
    place: _View,
    region: _View,
    offsets: _View,
    saturations: _View,
    rank: _View,
    used: _View,
    sums: _View,
    twice: _View,
    limits: Sequence[float],
    flag: _View,
    shares: _View,
    stream: int,
) -> None: ...
def cuda_rank_area(
    rank: _View,
    sums: _View,
    positives: bool,
    pairs: float,
    total: _View,
    flag: _View,
    area: _View,
    stream: int,
) -> None: ...
