"""The fp32 filter of nearest_templates loses no row: data at the edges of its blocks, range and bounds."""

from __future__ import annotations

import pytest
import torch
from support.retrieval_oracle import METRICS, check, rows

import thfr_ext

# Up to four queries stream the bank; more are packed, six or twelve side by side.
COUNTS = (1, 2, 4, 5, 13)
WIDTHS = (
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    255,
    256,
    257,
    259,
    511,
    512,
    513,
    768,
    1023,
    1100,
)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width(width: int) -> None:
    for queries in COUNTS:
        x = rows("random", queries, width, width)
        y = torch.cat([rows("random", 18, width, width + 1), rows("near", 19, width, width + 2, base=x)])
        for metric in METRICS:
            check(x, y, 3, metric, thfr_ext.nearest_templates(x, y, 3, metric))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 33, 127, 128, 129, 257])
def test_every_count(count: int) -> None:
    for queries in COUNTS:
        x, y = rows("positive", queries, 40, 1), rows("positive", count, 40, 2)
        for metric in METRICS:
            for k in (1, min(count, 7), count):
                check(x, y, k, metric, thfr_ext.nearest_templates(x, y, k, metric))


@pytest.mark.parametrize("queries", COUNTS)
def test_products_that_cancel(queries: int) -> None:
    # <x, y> is far below what its terms add up to, and rows differ by less than fp32 sums are wrong by.
    u, v = rows("random", queries, 700, 3), rows("random", 1, 700, 4)
    x = torch.cat([u, u], 1)
    y = torch.cat([v, -v], 1) * (1 + 1e-6 * rows("random", 300, 1400, 5))
    for metric in METRICS:
        every = thfr_ext.nearest_templates(x, y, len(y), metric)  # no row can be left out
        for k in (1, 10):
            for got, expected in zip(thfr_ext.nearest_templates(x, y, k, metric), every, strict=True):
                assert torch.equal(got, expected[:, :k])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", COUNTS)
def test_norms_at_the_edges_of_the_filter(metric: str, queries: int) -> None:
    # Rows are filtered where |x|^2 is 1e-30 to 1e30 of what most rows have, others scored at once.
    edges = torch.tensor([1e-19, 1e-16, 1e-15, 1e-14, 1.0, 1.0, 1.0, 1e14, 1e15, 1e16])
    for scale in (1e-18, 1.0, 1e3):
        y = rows("random", 120, 33, 6) * edges[torch.arange(120) % 10][:, None] * scale
        y[5::20] = 0
        for place in (4, 0, 9):  # queries of ordinary, least and largest size
            x = rows("random", queries, 33, 7) * edges[place] * scale
            for k in (1, 30):
                check(x, y, k, metric, thfr_ext.nearest_templates(x, y, k, metric))
        check(0 * x, y, 7, metric, thfr_ext.nearest_templates(0 * x, y, 7, metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", COUNTS)
def test_double_norms_at_the_edges_of_the_filter(metric: str, queries: int) -> None:
    base, exponents = rows("random", queries, 21, 8).double(), torch.arange(90).double() % 9
    for middle in (-118, -100, 0, 100, 118):
        y = rows("random", 90, 21, 9).double() * (10.0 ** (middle + 4 * exponents - 16))[:, None]
        x = base * 10.0 ** (middle if metric != "dot" else -middle)
        check(x, y, 30, metric, thfr_ext.nearest_templates(x, y, 30, metric))


@pytest.mark.parametrize("queries", COUNTS)
@pytest.mark.parametrize("kind", ["offset", "random"])
def test_the_lowest_bad_row_is_named(kind: str, queries: int) -> None:
    x, y = rows(kind, queries, 10, 10), rows(kind, 5000, 10, 11)
    y[[4700, 3111, 2990, 2989, 4999], 7] = float("nan")
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for _ in range(10):
                with pytest.raises(ValueError, match="got NaN in row 2989 of"):
                    thfr_ext.nearest_templates(x, y, 2, "l2")
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("queries", COUNTS)
def test_sorted_banks(queries: int) -> None:
    x = rows("random", 1, 50, 12).expand(queries, 50)
    for first, last in ((0.5, 1.0), (1.0, 0.5)):  # each row better than all before it, and the reverse
        y = x[:1] * torch.linspace(first, last, 700)[:, None]
        for metric in METRICS:
            check(x, y, 9, metric, thfr_ext.nearest_templates(x, y, 9, metric))
