"""The product that ranks rows before exact scores: its bound holds, and nothing hangs on how good it is."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from support.retrieval_cases import KINDS, METRICS, PAIRS, check, rows, search, take
from torch import Tensor

from thfr_ext.core.tensors import view
from thfr_ext.retrieval import cuda as retrieval_cuda


@pytest.fixture
def order() -> int:
    """One random order of blocks and threads; test_operators.py has the others."""
    return 1


@pytest.fixture(autouse=True)
def products(monkeypatch: pytest.MonkeyPatch) -> None:
    take("products", monkeypatch)


def packed(device: ModuleType, t: Tensor, parts: int, is_bank: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Operand [n, parts * D + 3], norms and exponents of rows."""
    made = torch.empty(len(t), parts * t.shape[1] + 3, dtype=torch.float16)
    gains = torch.empty(len(t), dtype=torch.int64)
    bad = torch.zeros(1, dtype=torch.int64)
    device.cuda_pack_rows(view(t), parts, is_bank, 1, view(made), view(gains), view(bad), 0)
    assert not bad
    assert (made[:, parts * t.shape[1] :] == 0).all()
    pairs = gains.view(torch.int32).view(-1, 2)
    return made, pairs[:, 0].view(torch.float32), pairs[:, 1]


@pytest.mark.parametrize("pair", PAIRS)
def test_operands_hold_the_rows(pair: tuple[torch.dtype, torch.dtype], device: ModuleType) -> None:
    """Their exact product is the rows', but for less than the part of the slack that is theirs."""
    for kind in KINDS:
        compare_operands(kind, pair, device)


def compare_operands(kind: str, pair: tuple[torch.dtype, torch.dtype], device: ModuleType) -> None:
    x, y = rows(kind, 4, 21, 1).to(pair[0]), rows(kind, 6, 21, 2).to(pair[1])
    if not (x.isfinite().all() and y.isfinite().all()):
        x, y = x.nan_to_num().clamp(-60_000, 60_000), y.nan_to_num().clamp(-60_000, 60_000)
    parts = 3 if pair[1] in (torch.float32, torch.float64) else 1 if pair[0] == pair[1] else 2
    u, x_norm, x_power = packed(device, x, parts, False)
    v, y_norm, y_power = packed(device, y, parts, True)
    wide = [t.double().numpy().astype(np.longdouble) for t in (x, y, u, v)]
    scale = np.exp2(-(x_power[:, None] + y_power[None, :]).numpy().astype(np.longdouble))
    exact, product = wide[0] @ wide[1].T * scale, wide[2] @ wide[3].T
    norms = [np.sqrt((wide[i] ** 2).sum(1)) * np.exp2(-p.numpy().astype(np.longdouble)) for i, p in
             ((0, x_power), (1, y_power))]  # fmt: skip
    for norm, told in zip(norms, (x_norm, y_norm), strict=True):
        np.testing.assert_allclose(told.double().numpy(), norm.astype(np.float64), rtol=1e-7)
    assert (np.abs(exact - product) <= 2.0**-20 * norms[0][:, None] * norms[1][None, :]).all()
    bound = (1 + 2.0**-9) * norms[0][:, None] * norms[1][None, :]  # of all that a product adds up
    assert (np.abs(wide[2]) @ np.abs(wide[3]).T <= bound * np.sqrt(21)).all()


@pytest.mark.parametrize("width", [100, 4097, 9000])
def test_products_are_within_the_slack(width: int, device: ModuleType) -> None:
    for pair in PAIRS:
        x, y = rows("positive", 4, width, 3).to(pair[0]), rows("positive", 4, width, 4).to(pair[1])
        how = retrieval_cuda._choose_operands(x, y)
        assert how.length <= retrieval_cuda.CHAIN + 8
        sides = []
        for t, is_bank in ((x, False), (y, True)):
            made = torch.empty(len(t), how.width, dtype=torch.float16)
            gains = torch.empty(len(t), dtype=torch.int64)
            if how.parts == 0:
                sides.append((t, torch.zeros(len(t))))
                continue
            device.cuda_pack_rows(
                view(t), how.parts, is_bank, 1, view(made), view(gains), view(torch.zeros(1).long()), 0
            )
            sides.append((made, gains.view(torch.int32).view(-1, 2)[:, 1].float()))
        planes = [m.unflatten(1, (how.planes, how.length)).transpose(0, 1) for m, _ in sides]
        found = retrieval_cuda._product(*planes).double().sum(0)
        found = found * torch.exp2((sides[0][1][:, None] + sides[1][1][None, :]).double())
        exact, norms = x.double() @ y.double().T, x.double().norm(dim=1)[:, None] * y.double().norm(dim=1)
        assert ((found - exact).abs() <= how.slack(width) * norms).all()


def test_what_is_read_in_place() -> None:
    def planes(rows_made: Tensor) -> tuple[int, int, int]:
        return tuple(retrieval_cuda._choose_operands(rows_made, rows_made))  # type: ignore[return-value]

    half = torch.zeros(3, 1536, dtype=torch.float16)
    assert planes(half) == (0, 1, 1536)
    assert planes(half.bfloat16()) == (0, 1, 1536)
    assert planes(torch.zeros(2, 65536, dtype=torch.float16)) == (0, 32, 2048)
    assert planes(torch.zeros(2, 5000, dtype=torch.float16)) == (0, 5, 1000)
    assert planes(torch.zeros(2, 4100, dtype=torch.float16)) == (1, 3, 1368)  # no planes of aligned pieces
    assert planes(half[:, 1:1529])[0] == 1
    assert planes(half[:1].expand(3, -1))[0] == 1
    assert planes(half.float()) == (3, 3, 1536)
    assert tuple(retrieval_cuda._choose_operands(half.float(), half)) == (2, 2, 1536)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["random", "near", "skewed", "huge", "offset", "tied"])
def test_any_product_within_the_slack_will_do(
    metric: str, kind: str, device: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products as wrong as the bound allows, at random and all one way, leave every bit as it is."""
    x, y = rows(kind, 2, 24, 5), rows(kind, 66, 24, 6, base=rows(kind, 2, 24, 5))
    expected = retrieval_cuda.nearest_templates(x, y, 4, metric, None)
    real, generator = retrieval_cuda._product, torch.Generator().manual_seed(7)
    how = retrieval_cuda._choose_operands(x, y)

    for wrong in ("random", "up", "down"):

        def product(a: Tensor, b: Tensor, wrong: str = wrong) -> Tensor:
            # the rows' own norms: those of `hi`, which is all but the last digits of a row
            own = [t.transpose(0, 1).flatten(1)[:, :24].double().norm(dim=1) for t in (a, b)]
            sign = torch.tensor({"up": 1.0, "down": -1.0}.get(wrong, 0.0))
            if wrong == "random":
                sign = 2 * torch.randint(0, 2, (len(own[0]), len(own[1])), generator=generator) - 1.0
            return real(a, b) + (0.99 * (how.slack(24) - 2.0**-19) * sign * own[0][:, None] * own[1]).float()

        monkeypatch.setattr(retrieval_cuda, "_product", product)
        found = retrieval_cuda.nearest_templates(x, y, 4, metric, None)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf, -torch.inf])
def test_products_that_tell_nothing(
    metric: str, value: float, device: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows are scored exactly, however many: there is no list of them that overflows."""
    x, y = rows("random", 2, 24, 8), rows("random", 66, 24, 9)
    real = retrieval_cuda._product
    monkeypatch.setattr(retrieval_cuda, "_product", lambda a, b: torch.full_like(real(a, b), value))
    if value == 0:
        monkeypatch.setattr(retrieval_cuda._Operands, "slack", lambda *_: 10.0)
    search(x, y, 7, metric)


def test_products_are_made_use_of(device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """With products that are far off, and a bound that does not say so, rows are left out."""
    x, y = rows("random", 2, 24, 10), rows("random", 66, 24, 11)
    real = retrieval_cuda._product
    monkeypatch.setattr(retrieval_cuda, "_product", lambda a, b: -real(a, b))
    with pytest.raises(AssertionError):
        check(x, y, 3, "cosine", retrieval_cuda.nearest_templates(x, y, 3, "cosine", None))


@pytest.mark.parametrize(("k", "metric"), [(1, "cosine"), (5, "l2"), (64, "dot")])
@pytest.mark.parametrize("count", [2, 9])
def test_strips(count: int, k: int, metric: str, device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of the bank that several blocks of threads share, with several rows a thread; best rows last."""
    monkeypatch.setattr(retrieval_cuda, "PRODUCT_BYTES", 2**24)
    x, y = rows("random", count, 8, 12), rows("tied", 2300, 8, 13)
    strips = device.cuda_select_strips(min(count, 4), 1152)
    assert strips == (3 if count == 2 else 2)
    monkeypatch.setattr(retrieval_cuda, "PACKED_BYTES", 2 * 1152 * 24)  # of three parts of 8 elements
    ascending = y[(y @ x[0]).argsort()]
    search(x, ascending, k, metric, torch.arange(count) + 1100)


def test_a_threshold_that_is_too_high_is_seen(device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound below the products' error loses rows: the one that is used is what makes results right."""
    x, y = rows("near", 4, 24, 14), rows("near", 130, 24, 14)
    real, generator = retrieval_cuda._product, torch.Generator().manual_seed(15)

    def wrong(a: Tensor, b: Tensor) -> Tensor:
        made = real(a, b)
        return made * (1 + 1e-3 * torch.randn(made.shape, generator=generator))

    monkeypatch.setattr(retrieval_cuda, "_product", wrong)
    monkeypatch.setattr(retrieval_cuda._Operands, "slack", lambda *_: 1e-12)
    with pytest.raises(AssertionError):
        check(x, y, 3, "cosine", retrieval_cuda.nearest_templates(x, y, 3, "cosine", None))
