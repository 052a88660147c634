"""How images come into the network and maps come back: rectangles, letterboxes, tiles, regions of
interest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import toy_method
from support.methods import SMALL, small_config
from thfr.cli import main
from thfr.config import ModelConfig
from thfr.errors import InputError
from thfr.io import ReadOptions, Region, framed, read_image
from thfr.io.framing import FILL, box_of, counted
from thfr.io.sizes import fitted, parse_grid, parse_size
from thfr.methods import Detector
from thfr.methods.common.tiles import blend_weights, corners, score_tiles, score_tiles_together, tiles_of
from thfr.methods.registry import config_from_values, method_names
from thfr.runs.inputs import RunInputs
from thfr.training import auto_size, train

HEIGHT, WIDTH = 90, 140
PLACES = ((12, 20), (60, 110), (40, 62))
GEOMETRIES: dict[str, dict[str, Any]] = {
    "rectangle": {"size": "64x96"},
    "letterbox": {"size": 96, "fit": "letterbox"},
    "tiles": {"size": 64, "tiles": "2x2", "overlap": 0.25},
    "letterboxed tiles": {"size": 64, "tiles": "1x2", "overlap": 0.2, "fit": "letterbox"},
}
REGION = np.zeros((HEIGHT, WIDTH), dtype=bool)
REGION[5:80, 10:100] = True


def good_images(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pattern = 90 + 30 * np.sin(x / 9) + 30 * np.cos(y / 7)
    return [
        (pattern[..., None] + rng.normal(0, 4, (HEIGHT, WIDTH, 3))).clip(0, 255).astype(np.uint8)
        for _ in range(count)
    ]


def with_square(image: np.ndarray, top: int, left: int) -> np.ndarray:
    marked = image.copy()
    marked[top : top + 14, left : left + 14] = 255
    return marked


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("good")
    for number, image in enumerate(good_images(8, 0)):
        Image.fromarray(image).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def roi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("roi") / "roi.png"
    Image.fromarray(REGION).save(path)
    return path


def fitted_run(
    method: str, geometry: dict[str, Any], paths: list[Path], out: Path, **options: Any
) -> Detector[Any]:
    values = small_config(method, holdout=0.25).model_dump(mode="json")
    values["model"] |= geometry
    config = config_from_values(values)
    train(config, paths, out, progress=False, device="cpu", **options)
    return Detector.load(out, "cpu")


def assert_over(anomaly_map: np.ndarray, top: int, left: int, slack: int = 10) -> None:
    assert anomaly_map.shape == (HEIGHT, WIDTH)
    row, column = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
    assert top - slack <= row < top + 14 + slack
    assert left - slack <= column < left + 14 + slack


@pytest.mark.parametrize(
    ("method", "geometry"), [*(("patchcore", geometry) for geometry in GEOMETRIES), ("padim", "rectangle")]
)
def test_a_map_peaks_over_the_defect(method: str, geometry: str, paths: list[Path], tmp_path: Path) -> None:
    detector = fitted_run(method, GEOMETRIES[geometry], paths, tmp_path / "run")
    image = good_images(1, 9)[0]
    found = detector.score([with_square(image, *place) for place in PLACES] + [image])
    for anomaly_map, place in zip(found.maps, PLACES, strict=False):
        assert_over(anomaly_map, *place)
    assert found.scores[:3].min() > 2 * found.scores[3]


@pytest.mark.parametrize("method", sorted(set(method_names()) - {"patchcore", "padim"}))
def test_every_method_takes_rectangular_tiles_and_a_region(
    method: str, paths: list[Path], roi: Path, tmp_path: Path
) -> None:
    geometry = {"size": "64x96", "tiles": "2x1", "overlap": 0.25}
    detector = fitted_run(method, geometry, paths, tmp_path / "run", roi=roi)
    assert detector.size == (112, 96)
    image = good_images(1, 9)[0]
    outside = with_square(image, 60, 120)
    found = detector.score([image, outside])
    assert found.maps[0].shape == (HEIGHT, WIDTH)
    assert np.isfinite(found.maps[0]).all()
    assert found.scores[0] == found.scores[1]  # what lies outside of the region is not even seen
    assert np.array_equal(*found.maps)
    for anomaly_map, score in zip(found.maps, found.scores, strict=True):
        assert (anomaly_map[~REGION] == anomaly_map.min()).all()
        assert anomaly_map.max() <= score * (1 + 1e-6)


def test_features_in_a_file_leave_a_bank_that_knows_the_places_of_tiles(
    paths: list[Path], tmp_path: Path
) -> None:
    values = small_config("thfr").model_dump(mode="json")
    values["model"] |= {"tiles": "2x1", "overlap": 0.25}
    trained = train(config_from_values(values), paths, tmp_path / "run", device="cpu", cache_budget=0)
    loaded = Detector.load(tmp_path / "run", "cpu")
    image = good_images(1, 9)[0]
    assert trained.bank.tiles == loaded.bank.tiles == 2
    np.testing.assert_array_equal(trained.score([image]).maps[0], loaded.score([image]).maps[0])


def test_the_toy_method_finds_the_square_in_the_region_only(
    paths: list[Path], roi: Path, tmp_path: Path
) -> None:
    with toy_method.registered():
        for number, geometry in enumerate(GEOMETRIES.values()):
            detector = fitted_run("toy", geometry, paths, tmp_path / str(number), roi=roi)
            image = good_images(1, 9)[0]
            both = with_square(with_square(image, 60, 120), *PLACES[0])
            found = detector.score([image, with_square(image, 60, 120), both])
            assert found.scores[1] == found.scores[0] < found.scores[2]
            assert_over(found.maps[2], *PLACES[0], slack=2)


def test_tiles_are_put_together_without_seams() -> None:
    model = ModelConfig(size=(64, 96), tiles=(3, 2), overlap=0.2)
    assert model.canvas == (166, 173)
    weights = blend_weights(model)
    total = torch.zeros(model.canvas)
    for (top, left), share in zip(corners(model), weights, strict=True):
        total[top : top + 64, left : left + 96] += share
    assert torch.allclose(total, torch.ones(model.canvas), atol=1e-6)

    y, x = torch.meshgrid(*(torch.arange(edge) for edge in model.canvas), indexing="ij")
    smooth = (100 + 50 * torch.sin(y / 20) + 50 * torch.cos(x / 25)).to(torch.uint8).expand(2, 3, -1, -1)

    def score(tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = tiles[:, 0].float()
        return maps, maps.amax((1, 2))

    for way in (score_tiles, score_tiles_together):
        assert torch.allclose(way(smooth, model, score), smooth[:, 0].float(), atol=1e-4)
    # tiles that disagree by a constant pass into each other by small steps
    stepped = score_tiles(smooth, model, lambda tiles: (tiles[:, 0].float() * 0 + tiles[0, 0, 0, 0], tiles))
    levels = tiles_of(smooth[:1], model)[:, 0, 0, 0].float()
    largest = float(levels.max() - levels.min())
    assert float(stepped.diff(dim=1).abs().max()) <= largest / 13 + 1e-3
    assert float(stepped.diff(dim=2).abs().max()) <= largest / 19 + 1e-3


@pytest.mark.parametrize("method", ["thfr", "spade"])
def test_templates_come_from_the_same_place(method: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):  # left and right half alike: only the place tells them apart
        half = rng.integers(60, 200, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(np.concatenate([half, half], 1)).save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.glob("*.png"))
    geometry = {"size": 64, "tiles": "1x2", "overlap": 0.0}
    detector = fitted_run(method, geometry, paths, tmp_path / "run")
    image = detector.prepare([read_image(paths[0])])
    chosen = []
    from thfr.methods.common.tiles import each_place

    for tiles, _, _ in each_place(image, detector.config.model):
        features = detector.features(tiles)
        if method == "thfr":
            chosen += [detector.bank.indices[one] % 2 for one in detector.choose_templates(features)[:, 0]]
        else:
            chosen += [detector._nearest_images(features)[1][0, 0] % 2]
    assert [int(place) for place in chosen] == [0, 1]


def test_a_letterbox_keeps_the_aspect_and_the_rest_is_blank() -> None:
    image = good_images(1, 3)[0]
    box = box_of((HEIGHT, WIDTH), (96, 96), "letterbox")
    assert (box.top, box.left, box.height, box.width) == (17, 0, 62, 96)
    seen = framed(image, (96, 96), ReadOptions(fit="letterbox"))
    outside = np.ones((96, 96), dtype=bool)
    outside[box.slices] = False
    assert (seen[outside] == FILL).all()
    assert np.array_equal(counted((HEIGHT, WIDTH), (96, 96), "letterbox", None), ~outside)
    assert box_of((1, 4000), (64, 64), "letterbox").height == 1


def test_a_region_is_kept_and_scaled(tmp_path: Path) -> None:
    region = Region.of_mask(REGION)
    options = ReadOptions(region=region, fit="letterbox")
    again = RunInputs.from_dict(json.loads(json.dumps(RunInputs(options).as_dict()))).options
    assert again == options
    assert again.region is not None
    assert again.region.digest == region.digest
    doubled = region.scaled((2 * HEIGHT, 2 * WIDTH))
    assert np.array_equal(doubled, REGION.repeat(2, 0).repeat(2, 1))
    with pytest.raises(InputError, match="roi"):
        Region.from_dict({"height": 5, "width": 5, "png": region.as_dict()["png"]})
    with pytest.raises(InputError, match="at least one pixel"):
        Region.of_mask(np.zeros((4, 4), dtype=bool))


_CORNERS = [[10, 5], [99, 5], [99, 79], [10, 79]]


@pytest.mark.parametrize(
    "values",
    [
        {"width": 140, "height": 90, "polygons": [_CORNERS]},
        {"imageWidth": 140, "imageHeight": 90, "shapes": [{"points": _CORNERS}]},
        [_CORNERS],
    ],
)
def test_a_polygon_is_a_region(values: Any, paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "roi.json").write_text(json.dumps(values))
    with toy_method.registered():
        detector = fitted_run("toy", {}, paths, tmp_path / "run", roi=tmp_path / "roi.json")
    region = detector.inputs.options.region
    assert region is not None
    assert np.array_equal(region.scaled((HEIGHT, WIDTH)), REGION)
    assert detector.config.model.region == region.digest


@pytest.mark.parametrize(
    "text", ["{", "[]", "[[[1, 2], [3, 4]]]", '[[[1, 2], [3, "x"], [5, 6]]]', "7", '{"polygons": [[1]]}']
)
def test_what_is_no_region_is_refused(text: str, paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "roi.json").write_text(text)
    with pytest.raises(InputError, match=r"roi: .*roi\.json"):
        train(small_config("padim"), paths, tmp_path / "run", roi=tmp_path / "roi.json", device="cpu")
    assert not (tmp_path / "run").exists()


def test_sizes_as_people_write_them() -> None:
    assert parse_size(256) == parse_size("256") == parse_size([256, 256]) == (256, 256)
    assert parse_size("256x640") == (256, 640)
    assert parse_grid("3x2") == (3, 2)
    for wrong in ("", "x", "256x", "1x2x3", "-4", "0", 2.5, None, True, "auto"):
        with pytest.raises(ValueError, match="expected"):
            parse_size(wrong)
    with pytest.raises(ValueError, match="ROWSxCOLUMNS"):
        parse_grid("3")
    assert ModelConfig().model_dump(mode="json")["size"] == 256  # as older runs have it
    assert ModelConfig(size="64x96").model_dump(mode="json")["size"] == [64, 96]


@pytest.mark.parametrize(("aspect", "wanted"), [(1, (256, 256)), (500 / 1260, (416, 160)), (2.5, (160, 416))])
def test_a_size_of_the_aspect_asked_for(aspect: float, wanted: tuple[int, int]) -> None:
    assert fitted(aspect, 256 * 256, 32) == wanted


def test_auto_size(paths: list[Path]) -> None:
    height, width = auto_size(paths)
    assert 0.85 < (width / height) / (WIDTH / HEIGHT) < 1.15
    assert (height % 32, width % 32) == (0, 0)
    assert auto_size(paths, tiles=(1, 3)) != (height, width)


def test_the_command_line(paths: list[Path], roi: Path, tmp_path: Path, capsys: Any) -> None:
    run, data = str(tmp_path / "run"), str(paths[0].parent)
    (tmp_path / "c.yaml").write_text(json.dumps(SMALL["padim"]))
    options = [
        "--backbone",
        "tf_efficientnet_lite0",
        "--config",
        str(tmp_path / "c.yaml"),
        "--method",
        "padim",
    ]
    where = ["train", "--dataset", "folder", "--data", data, "--out", run, "--roi", str(roi), "--json"]
    assert main([*where, *options, "--size", "64x96", "--tiles", "2x1", "--overlap", "0.2"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["size"], found["tiles"]) == ("64x96", "2x1")
    assert main([*where, *options, "--size", "64x96", "--tiles", "2x1", "--overlap", "0.3"]) == 2
    assert "model.overlap" in capsys.readouterr().err
    for name, value in (("--size", "64y96"), ("--tiles", "2"), ("--overlap", "0.6"), ("--fit", "crop")):
        with pytest.raises(SystemExit):
            main([*where, name, value])
    assert main(["predict", run, data, "--out", str(tmp_path / "out"), "--json"]) == 0
