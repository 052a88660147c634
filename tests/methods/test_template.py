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
from thfr.deploy.export.graph import trace
from thfr.errors import InputError
from thfr.methods import Detector
from thfr.methods.common.bank import TemplateBank
from thfr.methods.template import TemplateDetector
from thfr.methods.template.calibration import say_of_parts, steadiness, unrelated_difference
from thfr.methods.template.counts import PartCounts
from thfr.methods.template.difference import template_difference
from thfr.methods.template.memory import PatchMemory, patch_vectors
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


@pytest.fixture(scope="module")
def detector(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(small_config("template"), paths, tmp_path_factory.mktemp("template") / "run")


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
    assert memory.distances(first, torch.tensor([0])).min() > 0.05
    assert 0.5 < unrelated < 1.1
    some, _ = PatchMemory.build(levels, 20, 100, 8, 0)
    assert len(some) == 20
    assert not torch.equal(PatchMemory.build(levels, 20, 100, 8, 1)[0].patches, some.patches)


def test_good_maps_are_those_of_a_run_without_the_image(detector: TemplateDetector) -> None:
    bank, row = detector.bank, 4
    maps = detector.good_maps()
    assert maps is not None
    found = list(maps)
    assert len(found) == 9
    others = torch.arange(9) != row
    (memory,) = detector.memories
    smaller = TemplateDetector(
        detector.config,
        detector.extractor,
        TemplateBank([level[others] for level in bank.features], bank.indices[others]),
        [PatchMemory(memory.patches[memory.owners != row], memory.owners[memory.owners != row])],
        detector.peaks,
        detector.say,
        None,
    )
    expected, _ = smaller.score_prepared(products(9, 0)[row : row + 1])
    torch.testing.assert_close(found[row], expected, rtol=1e-2, atol=1e-2)
    assert detector.threshold is not None
    assert detector.threshold.scores[-1] == pytest.approx(max(float(m.max()) for m in found))
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


def trays(numbers: list[int], seed: int) -> list[torch.Tensor]:
    """Three levels of features [N,C,8,8] of images with so many parts of one kind, at any places."""
    rng = torch.Generator().manual_seed(seed)
    kinds = torch.eye(16)[:2]
    images = torch.zeros(len(numbers), 8, 8, dtype=torch.int64)
    for image, number in zip(images, numbers, strict=True):
        image[2 * torch.arange(4)[:, None] + 1, 2 * torch.arange(4)[None] + 1] = (
            (torch.randperm(16, generator=rng) < number).long().view(4, 4)
        )
    level = kinds[images].permute(0, 3, 1, 2) + 0.02 * torch.randn(len(numbers), 16, 8, 8, generator=rng)
    return [level, level, level]


def test_a_part_too_many_or_too_few_is_unusual_wherever_it_lies() -> None:
    """Every patch is as in good images, and so is every place: only the number differs."""
    counts = PartCounts.build([trays([3] * 60, 0)], torch.arange(60), 0)
    good, few, many = (counts.unusual([trays([number] * 12, number)]) for number in (3, 1, 6))
    assert good.median() < 1.3
    assert min(few.min(), many.min()) > good.median()
    assert min(few.median(), many.median()) > good.max()
    restored = PartCounts.from_state(counts.state(), [trays([3], 0)])
    assert torch.equal(restored.unusual([trays([6] * 12, 6)]), many)


def test_counts_do_not_know_copies_of_an_image_as_others() -> None:
    """A copy in another fold would excuse its image."""
    features = [level.repeat(2, 1, 1, 1) for level in trays([1, 2, 3, 4, 5, 6, 7, 8], 0)]
    apart = PartCounts.build([features], torch.arange(8).repeat(2), 0)
    together = PartCounts.build([features], torch.arange(16), 0)
    assert apart.typical > together.typical


def test_counts_in_a_run(paths: list[Path], tmp_path: Path, detector: TemplateDetector) -> None:
    found = run(template_config(counts=True), paths, tmp_path / "run")
    assert isinstance(found, TemplateDetector)
    assert found.counts is not None
    images = spotted(2, 3)
    assert found.threshold is None  # no good image is scored as if it were new, and none was held out
    plain, maxima = detector.score_prepared(images)
    maps, scores = found.score_prepared(images)
    torch.testing.assert_close(maps, plain)
    unusual = found.counts.unusual([found.features(images)])
    torch.testing.assert_close(scores, maxima * unusual.sqrt())
    assert unusual.min() > found.counts.unusual([found.features(products(2, 0))]).max()
    loaded = Detector.load(tmp_path / "run", "cpu")
    assert torch.equal(loaded.score_prepared(images)[1], scores)
    graph = trace(loaded, 1.0).module()
    torch.testing.assert_close(graph(images.permute(0, 2, 3, 1))[1], scores, rtol=1e-3, atol=1e-3)


def test_counts_are_of_whole_images(paths: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"template: model\.counts: expected whole images, got tiles"):
        run(template_config(size=[64, 96], tiles=[2, 1], counts=True), paths[:3], tmp_path / "run")


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
        good = [found.weighted(parts) for parts in found.leaving_out(torch.arange(9))]
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
