"""Learn from a folder of good images, then judge new ones: score, verdict and heat map of each.

    python examples/train_and_predict.py --good images/good --new images/new --out results
    python examples/train_and_predict.py --out results          # on generated images of a tray of parts

`thfr train` and `thfr predict` do the same from the shell, with a report to look at. The default number of
epochs here is for a quick look; :class:`thfr.THFR` has a better one of its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from thfr import THFR
from thfr.data import load_dataset
from thfr.data.synth import generate


def heat(anomaly_map: np.ndarray, high: float) -> Image.Image:
    """The map [H,W] as a grey picture; ``high`` and above is white."""
    return Image.fromarray((255 * (anomaly_map / high).clip(0, 1)).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--good", type=Path, help="folder of good images (default: generated ones)")
    parser.add_argument("--new", type=Path, help="folder of images to judge (default: generated ones)")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--images", type=int, default=48, help="good images to generate")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the good images")
    parser.add_argument("--size", type=int, default=256, help="edge of the input in pixels, a multiple of 32")
    arguments = parser.parse_args()
    if (arguments.good is None) != (arguments.new is None):
        parser.error("give both --good and --new, or neither")

    if arguments.good is None:
        generate(arguments.out / "data", images=arguments.images)
        data = load_dataset("mvtec_loco", arguments.out / "data")
        good = [sample.path for sample in (*data.train, *data.validation)]
        new = [sample.path for sample in data.test]
    else:
        good, new = arguments.good, arguments.new

    # The weights of this backbone come with an installed package: nothing is downloaded.
    detector = THFR(
        backbone="tf_efficientnet_lite0", size=arguments.size, epochs=arguments.epochs, progress=True
    )
    detector.fit(good, out=arguments.out / "run")  # resumes an interrupted training

    found = detector.predict(new)
    assert found.paths is not None
    assert found.verdicts is not None
    high = float(found.scores.max())
    for path, score, verdict, anomaly_map in zip(
        found.paths, found.scores, found.verdicts, found.maps, strict=True
    ):
        picture = arguments.out / "maps" / path.parent.name / f"{path.stem}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        heat(anomaly_map, high).save(picture)
        print(f"{verdict:4} {score:.4f} {path}")


if __name__ == "__main__":
    main()
