"""The template method: places, weights of the parts, leaving out, few images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.images import products, spotted, write_images
from support.methods import run, small_config
from thfr.cli import main
from thfr.config import RunConfig
from thfr.errors import InputError
from thfr.methods import Detector
from thfr.methods.template import TemplateDetector
from thfr.methods.template.calibration import say_of_parts, steadiness, unrelated_difference
from thfr.methods.template.difference import template_difference
from thfr.methods.template.memory import PatchMemory, patch_vectors
from thfr.methods.template.usual import Found, Usual
from thfr.methods.thfr.bank import TemplateBank
from torch.nn import functional as F


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def template_config(**model: Any) -> RunConfig:
    config = small_config("template")
    return config.from_values(
        {**config.model_dump(mode="json"), "model": {**config.model.model_dump(), **model}}
    )


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("good"), products(9, 0))


@pytest.fixture(scope="module", params=[False, True], ids=["as they are", "in proportion"])
def detector(
    request: pytest.FixtureRequest, paths: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    config = template_config(in_proportion=request.param)
    return run(config, paths, tmp_path_factory.mktemp("template") / "run")


def test_the_strict_answer_is_the_least_difference_at_the_place() -> None:
    features, templates = noise(2, 8, 5, 4), noise(2, 3, 8, 5, 4, seed=1)
    found = template_difference(features, templates, reach=0, consensus=1)
    wanted = (1 - F.cosine_similarity(features[:, None], templates, dim=2)).amin(1)
    torch.testing.assert_close(found, wanted)


def test_a_moved_product_is_forgiven_but_no_defect_inside_of_it() -> None:
    """A defect equal to what lies beside it would be excused by the place beside it, were each location to
    choose by itself.
    """
    template = noise(1, 16, 12, 12)
    moved = template.roll(1, 3)
    moved[:, :, 5, 5] = template[:, :, 6, 5]  # what lies below: a lie that one cell away is the truth
    found = template_difference(moved, template[:, None], reach=1, consensus=2)[0]
    strict = template_difference(moved, template[:, None], reach=0, consensus=2)[0]
    inside = torch.ones(12, 12, dtype=torch.bool)
    inside[:, :3] = inside[:, -3:] = False
    inside[5, 5] = False
    torch.testing.assert_close(found[inside], strict[inside] / 2)
    own = 1 - F.cosine_similarity(template[0, :, 6, 5], template[0, :, 5, 4], dim=0)
    torch.testing.assert_close(found[5, 5], (strict[5, 5] + own) / 2)
    assert found[5, 5] > 0.3


def test_say_follows_what_good_images_say() -> None:
    say = say_of_parts(torch.tensor([0.1, 0.5, 2.0]), torch.ones(3))
    torch.testing.assert_close(say.sum(), torch.tensor(1.0))
    torch.testing.assert_close(say[0] / say[1], torch.tensor(0.9 / 0.5))
    assert 0 < say[2] < 0.02  # good images explain one another no better than chance


def test_backbones_are_weighed_by_how_little_good_images_vary() -> None:
    peaks = torch.tensor([0.9, 1.0, 1.1])
    torch.testing.assert_close(steadiness(5 * peaks), steadiness(peaks) / 5)  # whatever the unit
    torch.testing.assert_close(steadiness(1 + 2 * (peaks - 1)), steadiness(peaks) / 4)
    torch.testing.assert_close(steadiness(torch.tensor([2.0])), torch.tensor(0.5 / 0.05**2))


def test_a_good_image_peaks_near_one(detector: TemplateDetector) -> None:
    assert detector.threshold is not None
    assert 0.5 < detector.threshold.scores[4] < 1.2
    assert detector.score_prepared(spotted(2, 3))[1].min() > 1.5


def test_difference_of_unrelated_places() -> None:
    features = noise(40, 6, 3, 5) + 0.5
    flat = F.normalize(features.permute(0, 2, 3, 1).flatten(0, 2), dim=1)
    wanted = 1 - (flat @ flat.T).mean()
    assert unrelated_difference(features) == pytest.approx(float(wanted), abs=1e-5)


def test_memory_of_all_patches_and_of_some() -> None:
    levels = [noise(4, c, e, 2 * e, seed=c) for c, e in ((4, 8), (6, 4), (10, 2))]
    memory, unrelated = PatchMemory.build(levels, 1000, 1000, 8, 0)
    assert len(memory) == 4 * 32
    assert torch.equal(memory.owners, torch.arange(4).repeat_interleave(32))
    torch.testing.assert_close(patch_vectors(levels).norm(dim=1), torch.ones(4, 4, 8))
    assert memory.distances(levels).abs().max() < 1e-3
    first = [level[:1] for level in levels]
    assert memory.find(first, torch.tensor([0])).difference.min() > 0.05
    assert 0.5 < unrelated < 1.1
    some, _ = PatchMemory.build(levels, 20, 100, 8, 0)
    assert len(some) == 20
    assert not torch.equal(PatchMemory.build(levels, 20, 100, 8, 1)[0].patches, some.patches)


def found_at(difference: float, patch: int) -> Found:
    """Nine locations, all nearest to the same patch of a memory, with a tenth of the next one."""
    near = torch.tensor([[patch, patch + 1]]).expand(9, 2)
    return Found(torch.full((1, 3, 3), difference), near, torch.tensor([[0.9, 0.1]]).expand(9, 2))


def test_a_difference_counts_in_proportion_to_what_is_usual_there() -> None:
    unknown = Usual.unknown(noise(20, 4))
    assert torch.equal(unknown.proportion(found_at(0.3, 2)), found_at(0.3, 2).difference)
    usual = unknown
    for _ in range(20):
        usual = usual.with_image(found_at(0.1, 0)).with_image(found_at(0.4, 10))
    smooth, rough = (float(usual.proportion(found_at(0.3, patch)).mean()) for patch in (0, 10))
    assert smooth > 2 * rough
    assert rough < 0.3 < smooth
    again = usual.with_image(found_at(0.9, 5)).with_image(found_at(0.9, 5), times=-1)
    torch.testing.assert_close(again.proportion(found_at(0.3, 5)), usual.proportion(found_at(0.3, 5)))


def test_what_is_usual_is_of_good_images_that_the_memory_does_not_hold(detector: TemplateDetector) -> None:
    (memory,) = detector.memories
    if not detector.config.model.in_proportion:
        assert not memory.usual.known
        return
    locations = memory.find(detector.bank.gather(torch.arange(9))).difference.numel()
    assert float(memory.usual.counts.sum()) == pytest.approx(locations, rel=1e-3)
    usual = Usual.unknown(memory.patches)
    for row in range(9):
        usual = usual.with_image(memory.find(detector.bank.gather(torch.tensor([row])), torch.tensor([row])))
    torch.testing.assert_close(memory.usual.squares, usual.squares, rtol=1e-3, atol=1e-5)


def test_a_stored_run_knows_what_is_usual(
    detector: TemplateDetector, paths: list[Path], tmp_path: Path
) -> None:
    run(detector.config, paths, tmp_path / "run")
    loaded = Detector.load(tmp_path / "run", "cpu")
    assert isinstance(loaded, TemplateDetector)
    assert loaded.memories[0].usual.known == detector.config.model.in_proportion
    images = spotted(2, 3)
    assert torch.equal(loaded.score_prepared(images)[0], detector.score_prepared(images)[0])
    maps, again = detector.good_maps(), loaded.good_maps()  # kept from the fitting, and made anew
    assert maps is not None
    assert again is not None
    for one, other in zip(maps, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_shares_of_the_patches_end_at_nothing(detector: TemplateDetector) -> None:
    """So that which of two equally similar patches is in the list cannot matter."""
    found = detector.memories[0].find(detector.bank.gather(torch.tensor([3])), torch.tensor([3]))
    torch.testing.assert_close(found.shares.sum(1), torch.ones(len(found.shares)))
    assert found.shares[:, -1].max() < 0.01
    assert (found.shares.diff(dim=1) <= 0).all()


def test_good_maps_are_those_of_a_run_without_the_image(detector: TemplateDetector) -> None:
    bank, row = detector.bank, 4
    maps = detector.good_maps()
    assert maps is not None
    good = list(maps)
    assert len(good) == 9
    others = torch.arange(9) != row
    (memory,) = detector.memories
    kept = memory.owners != row
    found = memory.find(bank.gather(torch.tensor([row])), torch.tensor([row]))
    usual = memory.usual.with_image(found, times=-1)
    usual = Usual(usual.squares[kept], usual.counts[kept])
    smaller = TemplateDetector(
        detector.config,
        detector.extractor,
        TemplateBank([level[others] for level in bank.features], bank.indices[others]),
        [PatchMemory(memory.patches[kept], memory.owners[kept], usual)],
        detector.peaks,
        detector.say,
    )
    expected, _ = smaller.score_prepared(products(9, 0)[row : row + 1])
    torch.testing.assert_close(good[row], expected, rtol=1e-2, atol=1e-2)
    assert detector.threshold is not None
    assert detector.threshold.scores[-1] == pytest.approx(max(float(m.max()) for m in good))
    assert detector.scale is not None
    assert "without itself" in detector.threshold.source


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_images_suffice(paths: list[Path], tmp_path: Path, count: int) -> None:
    config = template_config(memory=300)
    found: Detector[Any] = run(config, paths[:count], tmp_path / "run")
    assert isinstance(found, TemplateDetector)
    assert len(found.bank) == count * 5  # and four copies of each
    assert found.template_count == count
    if count == 1:
        assert found.threshold is None  # its copies are no other images
    else:
        assert found.threshold is not None
        assert len(found.threshold.scores) == count
    good, bad = (found.score_prepared(images(4, 77))[1] for images in (products, spotted))
    assert bad.min() > good.max()


@pytest.mark.parametrize(("parts", "count"), [("arrangement", 3), ("material", 1)])
def test_one_part_alone(paths: list[Path], tmp_path: Path, parts: str, count: int) -> None:
    found = run(template_config(parts=parts), paths, tmp_path / "run")
    assert isinstance(found, TemplateDetector)
    assert found.say.shape == (count,)
    assert len(found.memories) == (parts == "material")
    assert (found.template_count == 0) == (parts == "material")
    loaded = Detector.load(tmp_path / "run", "cpu")
    images = spotted(2, 3)
    assert torch.equal(loaded.score_prepared(images)[1], found.score_prepared(images)[1])


def test_two_backbones_in_one_run(paths: list[Path], tmp_path: Path) -> None:
    """Each gives three levels and a material; read again, the run says the same."""
    found = run(
        template_config(backbone="tf_efficientnet_lite0+test_vit", size=128, pretrained=False),
        paths,
        tmp_path / "run",
    )
    assert isinstance(found, TemplateDetector)
    assert found.say.shape == (8,)
    assert [memory.patches.shape[1] for memory in found.memories] == [40 + 112, 64 + 64]
    assert found.bank.keys.shape[1] == 112 * 8 * 8 + 64 * 10 * 10
    torch.testing.assert_close(found.bank.keys.norm(dim=1), torch.ones(9))
    torch.testing.assert_close(found.say.sum(), torch.tensor(1.0))
    levelled = []
    for numbers in found._parts_of_backbones():
        good = [found._weighted(parts) for parts in found._leaving_out(torch.arange(9))]
        peaks = torch.cat([found._smoothed([parts[number] for number in numbers])[1] for parts in good])
        levelled.append(peaks.median() * (peaks.std(correction=0) / peaks.median()).clamp_min(0.05) ** 2)
    torch.testing.assert_close(*levelled)
    images = found.prepare([image.permute(1, 2, 0).numpy() for image in spotted(2, 3)])
    loaded = Detector.load(tmp_path / "run", "cpu")
    assert torch.equal(loaded.score_prepared(images)[1], found.score_prepared(images)[1])


def test_only_template_joins_backbones() -> None:
    with pytest.raises(InputError, match="only template joins several"):
        small_config("padim").from_values({"method": "padim", "model": {"backbone": "resnet18+test_vit"}})


def test_tiles_and_rectangles(paths: list[Path], tmp_path: Path) -> None:
    found = run(template_config(size=[64, 96], tiles=[2, 1]), paths[:3], tmp_path / "run")
    assert isinstance(found, TemplateDetector)
    assert len(found.bank) == 3 * 2 * 5
    assert found.good_maps() is None
    assert found.threshold is None
    images = found.prepare([image.permute(1, 2, 0).numpy() for image in products(2, 8)])
    maps, _ = found.score_prepared(images)
    assert maps.shape == (2, *found.size)
    assert found.nearest_templates(images).max() < 3  # type: ignore[union-attr]


def test_no_image_need_be_held_out(paths: list[Path], tmp_path: Path) -> None:
    """From the command line: one image of a folder, without and with a method that cannot leave it out."""
    write_images(tmp_path / "one", products(1, 0))
    write_images(tmp_path / "more", products(4, 0))
    options = ["--dataset", "folder", "--backbone", "tf_efficientnet_lite0", "--size", "auto:64", "--json"]
    for method, folder, held in (("template", "one", 0), ("template", "more", 4), ("patchcore", "one", 0)):
        out = tmp_path / f"{method}-{folder}"
        given = ["train", "--method", method, "--data", str(tmp_path / folder), "--out", str(out), *options]
        assert main(given) == 0
        threshold = Detector.load(out, "cpu").threshold
        assert (0 if threshold is None else len(threshold.scores)) == held
