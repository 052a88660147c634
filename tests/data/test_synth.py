"""The made-up data set: layout, rules, masks, reproducibility, and whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import thfr.data.synth as synth
from thfr.data import MVTecLOCO, load_dataset
from thfr.data.synth import generate, render, split_sizes
from thfr.data.synth.defects import DEFECTS, Job, defects_config, spoil
from thfr.data.synth.scene import COLOURS, good_scene, nominal_area
from thfr.errors import InputError

IMAGES = 3


def digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("synth"), images=IMAGES, seed=5)


def test_official_layout(made: Path) -> None:
    dataset = load_dataset("mvtec_loco", made.parent)
    assert isinstance(dataset, MVTecLOCO)
    assert dataset.category == made.name == "synth_tray"
    sizes = split_sizes(IMAGES)
    assert len(dataset.train) == IMAGES
    assert len(dataset.validation) == sizes["validation", "good"]
    for kind in ("good", "logical_anomalies", "structural_anomalies"):
        assert sum(sample.kind == kind for sample in dataset.test) == sizes["test", kind]
    dataset.verify()
    found = {name for sample in dataset.test for name in dataset.defect_names(sample)}
    assert {"missing_bolt", "mismatched_label", "extra_bolt", "misplaced_nut", "scratch"} <= found
    assert [path.name for path in made.parent.iterdir()] == ["synth_tray"]


def test_saturation_says_what_has_to_be_found(made: Path) -> None:
    dataset = load_dataset("mvtec_loco", made)
    assert isinstance(dataset, MVTecLOCO)
    saturations, areas = {}, {}
    for sample in dataset.test:
        regions = dataset.regions(sample)
        for name, mask, saturation in zip(
            dataset.defect_names(sample), regions.masks, regions.saturations, strict=True
        ):
            saturations[name], areas[name] = saturation, int(mask.sum())
    bolt = nominal_area("bolt")
    assert saturations["missing_bolt"] == saturations["extra_bolt"] == bolt
    assert areas["extra_bolt"] == pytest.approx(3 * bolt, rel=0.05)  # any of the three may be the extra one
    assert areas["missing_bolt"] > 2 * bolt
    assert (
        saturations["misplaced_nut"] == areas["misplaced_nut"] == pytest.approx(nominal_area("nut"), rel=0.05)
    )
    assert saturations["scratch"] == int(0.6 * areas["scratch"])


def test_config_has_both_sorts_of_threshold() -> None:
    assert {entry.relative_saturation for entry in defects_config()} == {True, False}


def test_same_seed_same_bytes(made: Path, tmp_path: Path) -> None:
    assert digest(generate(tmp_path, images=IMAGES, seed=5)) == digest(made)


def test_other_seed_other_images(made: Path, tmp_path: Path) -> None:
    other, first = digest(generate(tmp_path, images=2, seed=6)), digest(made)
    images = [name for name in other if not name.startswith("ground_truth") and name.endswith(".png")]
    assert all(other[name] != first[name] for name in images if name in first)
    assert other["defects_config.json"] == first["defects_config.json"]
    assert len(set(first.values())) == len(first)  # no two files alike


def test_image_depends_on_its_place_only(made: Path) -> None:
    image, _ = render("good", 2, (5, 0, 2))
    train = load_dataset("mvtec_loco", made).train
    np.testing.assert_array_equal(image, synth.Image.open(train[2].path))


def test_good_scenes_keep_the_rules() -> None:
    for seed in range(30):
        scene = good_scene(np.random.default_rng(seed))
        counts = {kind: len(scene.find(kind)) for kind in ("bolt", "washer", "nut", "cap", "label")}
        assert counts == {"bolt": 2, "washer": 1, "nut": 1, "cap": 1, "label": 1}
        assert scene.find("cap")[0].colour == scene.find("label")[0].colour
    colours = {good_scene(np.random.default_rng(seed)).find("cap")[0].colour for seed in range(30)}
    assert colours == set(COLOURS)


def spoiled(kind: str, index: int, seed: int = 0) -> Job:
    rng = np.random.default_rng((seed, index))
    return spoil(good_scene(rng), kind, index, rng)


@pytest.mark.parametrize("kind", sorted(DEFECTS))
@pytest.mark.parametrize("seed", range(4))
def test_every_defect_is_annotated_in_the_picture(kind: str, seed: int) -> None:
    known = {entry.defect_name: entry for entry in defects_config()}
    for index in range(len(DEFECTS[kind])):
        job = spoiled(kind, index, seed)
        assert job.regions
        for name, mask in job.regions:
            area = int(mask.sum())
            assert area >= 150, name
            assert known[name].saturation(area) >= 100
            inside = np.zeros_like(mask)
            inside[1:-1, 1:-1] = True
            assert not mask[~inside].any(), name


def test_every_configured_defect_occurs() -> None:
    names = {
        name
        for kind, choices in DEFECTS.items()
        for index in range(len(choices))
        for name, _ in spoiled(kind, index).regions
    }
    assert names == {entry.defect_name for entry in defects_config()}


def test_mismatched_label_differs_in_colour() -> None:
    for seed in range(10):
        scene = spoiled("logical_anomalies", 1, seed).scene
        assert scene.find("cap")[0].colour != scene.find("label")[0].colour


def test_wrong_counts_and_swapped_parts() -> None:
    found, places = {}, {}
    for index in range(len(DEFECTS["logical_anomalies"])):
        job = spoiled("logical_anomalies", index)
        counts = [len(job.scene.find(kind)) for kind in ("bolt", "washer", "nut", "cap", "label")]
        name = job.regions[0][0]
        found[name] = (counts, int(job.regions[0][1].sum()))
        places[name] = job.scene
    bolt, washer, nut = map(nominal_area, ("bolt", "washer", "nut"))
    for name, counts, area in (
        ("extra_bolt", [3, 1, 1, 1, 1], 3 * bolt),
        ("extra_washer", [2, 2, 1, 1, 1], 2 * washer),  # either of the two may be the extra one
        ("washer_for_nut", [2, 2, 0, 1, 1], 2 * washer),
        ("nut_for_washer", [2, 0, 2, 1, 1], 2 * nut),
        ("swapped_bolts_and_rings", [2, 1, 1, 1, 1], 2 * bolt + washer + nut),
    ):
        assert found[name][0] == counts, name
        assert found[name][1] == pytest.approx(area, rel=0.05), name
    swapped = places["swapped_bolts_and_rings"]
    assert all(bolt.x > 0 for bolt in swapped.find("bolt"))
    assert all(ring.x < 0 for ring in swapped.find("washer") + swapped.find("nut"))


def test_three_rings_do_not_touch() -> None:
    for seed in range(20):
        scene = spoiled("logical_anomalies", 9, seed).scene
        rings = scene.find("washer") + scene.find("nut")
        assert len(rings) == 3
        assert scene.mask(*rings).sum() == sum(scene.mask(ring).sum() for ring in rings)


def test_second_defect_spares_the_first_part() -> None:
    for seed in range(20):  # a bent and a broken bolt are two bolts
        rng = np.random.default_rng(seed)
        job = Job(good_scene(rng))
        for apply in DEFECTS["structural_anomalies"][1], DEFECTS["structural_anomalies"][6]:
            apply(job, rng)
        assert sorted(bolt.flaw for bolt in job.scene.find("bolt")) == ["bent", "broken"]


@pytest.mark.parametrize("index", range(len(DEFECTS["structural_anomalies"])))
def test_damage_changes_the_pixels_of_its_mask(index: int) -> None:
    rng = np.random.default_rng(1)
    scene = good_scene(rng)
    job = Job(scene)
    DEFECTS["structural_anomalies"][index](job, rng)

    def picture(spoiled: bool) -> np.ndarray:
        noise = np.random.default_rng(2)
        canvas = synth.draw(job.scene if spoiled else scene, noise)
        for overlay in job.overlays if spoiled else []:
            overlay(canvas)
        return synth.shade(canvas, synth.sample_light(np.random.default_rng(3)), noise).astype(float)

    change = np.abs(picture(True) - picture(False)).max(axis=2)
    ((_, mask),) = job.regions
    assert change[mask].mean() > 15
    assert change[~mask].mean() < 1


# Refusals


def test_full_target_is_refused(made: Path) -> None:
    before = digest(made)
    with pytest.raises(InputError, match=r"synth: .*synth_tray is there already"):
        generate(made.parent, images=2)
    assert digest(made) == before


@pytest.mark.parametrize(("images", "seed"), [(1, 0), (0, 0), (-3, 0), (2, -1)])
def test_numbers_out_of_range(tmp_path: Path, images: int, seed: int) -> None:
    with pytest.raises(InputError, match=r"synth: (images|seed) must be at least"):
        generate(tmp_path / "x", images=images, seed=seed)
    assert not (tmp_path / "x").exists()


def test_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = synth._save

    def fail_later(pixels: np.ndarray, path: Path) -> None:
        if path.parts[-3:] == ("validation", "good", "000.png"):
            raise OSError("disk full")
        save(pixels, path)

    monkeypatch.setattr(synth, "_save", fail_later)
    with pytest.raises(OSError, match="disk full"):
        generate(tmp_path / "deep" / "out", images=2)
    assert list(tmp_path.iterdir()) == []
