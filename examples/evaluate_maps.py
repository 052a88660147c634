"""Evaluate the anomaly maps of any method with thfr_ext alone: image AUROC, pixel AUROC and AU-PRO.

    python examples/evaluate_maps.py --data mvtec_ad/bottle --maps MAPS/bottle
    python examples/evaluate_maps.py             # generated textures, and the maps of a very simple method

Figures are those of MVTec AD's protocol. Maps are float TIFFs of their image's size,
MAPS/bottle/test/<kind>/<id>.tiff. `thfr evaluate --maps` does the same with checks of every file, and MVTec
LOCO AD's figures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

import thfr_ext


def write_example(data: Path, maps: Path, seed: int = 0) -> None:
    """A category in MVTec AD's layout: a striped texture, defects being dark scratches. A map is the distance
    of each pixel from the texture without noise.
    """
    rng = np.random.default_rng(seed)
    stripes = 128 + 60 * np.sin(np.arange(128) / 3)[None, :] + np.zeros((128, 1))
    images: dict[tuple[str, int], np.ndarray] = {}
    for kind, count in (("good", 6), ("scratch", 6)):
        for number in range(count):
            images[kind, number] = stripes + rng.normal(0, 15, stripes.shape)
            if kind == "scratch":
                mask = np.zeros(stripes.shape, np.uint8)
                row, column = rng.integers(10, 80, 2)
                mask[row : row + 4, column : column + 40] = 255
                images[kind, number][mask > 0] -= 70
                save(data / "ground_truth" / kind / f"{number:03d}_mask.png", mask)
            save(
                data / "test" / kind / f"{number:03d}.png", images[kind, number].clip(0, 255).astype(np.uint8)
            )
    for (kind, number), image in images.items():
        path = maps / "test" / kind / f"{number:03d}.tiff"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.abs(image - stripes).astype(np.float32))


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def evaluate(data: Path, maps: Path, limit: float) -> dict[str, float]:
    """The three figures of one category. Images may differ in size: lists of [H,W] are taken as they are."""
    scores, masks, labels = [], [], []
    for image in sorted((data / "test").glob("*/*.png")):
        kind = image.parent.name
        scores.append(tifffile.imread(maps / "test" / kind / f"{image.stem}.tiff").astype(np.float32))
        labels.append(kind != "good")
        if labels[-1]:
            masks.append(np.asarray(Image.open(data / "ground_truth" / kind / f"{image.stem}_mask.png")) > 0)
        else:
            masks.append(np.zeros(scores[-1].shape, bool))
    pixels = np.concatenate([m.ravel() for m in scores]), np.concatenate([m.ravel() for m in masks])
    return {
        "image AUROC": thfr_ext.auroc(np.array([m.max() for m in scores]), np.array(labels)),
        "pixel AUROC": thfr_ext.auroc(*pixels),
        f"AU-PRO to FPR {limit}": thfr_ext.au_pro(scores, masks, limit),  # exact: no grid of thresholds
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="a category's folder, with test and ground_truth")
    parser.add_argument("--maps", type=Path, help="its maps' folder, with test")
    parser.add_argument("--limit", type=float, default=0.3, help="false-positive rate where AU-PRO ends")
    arguments = parser.parse_args()
    if (arguments.data is None) != (arguments.maps is None):
        parser.error("give both --data and --maps, or neither")
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.data is None:
            arguments.data, arguments.maps = Path(scratch) / "stripes", Path(scratch) / "maps"
            write_example(arguments.data, arguments.maps)
        for name, value in evaluate(arguments.data, arguments.maps, arguments.limit).items():
            print(f"{name:20} {value:.4f}")


if __name__ == "__main__":
    main()
