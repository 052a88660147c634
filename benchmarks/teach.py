"""What teaching does: a lamp is changed, every product becomes a false alarm, ten images of it are taught.

    python benchmarks/teach.py FOLDER... --weights FILE --work DIR --out teach.json

Each FOLDER holds good images. Of each set 60 images are learnt from and set the threshold; of the others,
made darker and warmer, ten are taught, and the rest (at most 30) are checked, as they are and with an anomaly
planted into each. No test image is used. Runs that are there are not trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from thfr.data.planted import PLANTED, plant
from thfr.deploy.teach import Change, Taught, teach
from thfr.io import list_images, read_image
from thfr.methods.registry import config_from_values
from thfr.training import train
from thfr.training.trainer import divide

import thfr_ext

LEARNT, TAUGHT, CHECKED = 60, 10, 30
LAMP = np.array([0.80, 0.72, 0.62])  # of red, green, blue
SETTINGS: dict[str, dict[str, Any]] = {
    "patchcore": {"model": {"bank_limit": 4000}, "training": {"candidates": 20_000}},
    "padim": {"model": {"stride": 8}},
    "spade": {"model": {"stride": 8, "image_neighbours": 5}},
    "thfr": {},
}


def relit(image: np.ndarray) -> np.ndarray:
    """The image under the new lamp."""
    return (image * LAMP).round().astype(np.uint8)


def prepare(images: list[Path], folder: Path) -> None:
    """Write the images under the new lamp: to teach, to check, and with planted anomalies."""
    if (folder / "done").exists():
        return
    made = [relit(read_image(path)) for path in images]
    for name, some in (("teach", made[:TAUGHT]), ("check", made[TAUGHT:])):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(some):
            Image.fromarray(image).save(folder / name / f"{number:03d}.png")
    (folder / "planted").mkdir(exist_ok=True)
    kinds = list(PLANTED)
    for number, image in enumerate(made[TAUGHT:]):
        other = Image.fromarray(made[number % TAUGHT]).resize((image.shape[1], image.shape[0]))
        planted = plant(image, np.asarray(other), kinds[number % len(kinds)], number)[0]
        Image.fromarray(planted).save(folder / "planted" / f"{number:03d}.png")
    (folder / "done").touch()


def row(found: Taught, check: Path) -> dict[str, Any]:
    """Shares of good images called bad, of anomalies found, and AUROC, before and after."""
    good = [change for change in found.of("checked") if Path(change.image).parent == check]
    bad = [change for change in found.of("checked") if Path(change.image).parent != check]

    def share(changes: list[Change], verdict: str) -> float:
        return round(sum(getattr(one, verdict) == "bad" for one in changes) / len(changes), 3)

    values: dict[str, Any] = {"checked": len(good), "planted": len(bad), "teach_seconds": found.seconds}
    for moment in ("before", "after"):
        scores = np.array([getattr(one, moment) for one in good + bad])
        labels = np.array([False] * len(good) + [True] * len(bad))
        values[moment] = {
            "false_alarms": share(good, f"verdict_{moment}"),
            "found": share(bad, f"verdict_{moment}"),
            "auroc": round(float(thfr_ext.auroc(scores, labels)), 4),
            "old_good_called_bad": share(found.of("held out"), f"verdict_{moment}"),
        }
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description="What teaching does, on sets of good images.")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path, required=True, help="of resnet18")
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS))
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = json.loads(args.out.read_text()) if args.out.exists() else []
    for folder in args.folders:
        name = folder.parts[-3] if folder.name == "good" else folder.name
        paths = list_images(folder)
        learnt = min(LEARNT, len(paths) * 2 // 3)
        spread = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))]
        data = args.work / name
        prepare(spread[learnt : learnt + TAUGHT + CHECKED], data)
        for method in args.methods:
            if any(one["set"] == name and one["method"] == method for one in rows):
                continue
            started = time.monotonic()
            sections = SETTINGS[method]
            config = config_from_values(
                {
                    "method": method,
                    "model": {"backbone": "resnet18", "size": args.size, **sections.get("model", {})},
                    "training": {"holdout": 0.4, **sections.get("training", {})},
                }
            )
            run = data / method
            train(config, spread[:learnt], run, weights=args.weights, progress=False, device="cpu")
            held = divide(spread[:learnt], config.training)[2]  # which a run on a list does not remember
            check = [data / "check", data / "planted"]
            out = data / f"{method}-taught-{int(time.time())}"
            found = teach(run, data / "teach", out, calibration=held, check=check, device="cpu")
            known = {"set": name, "method": method, "size": args.size, "learnt": learnt - len(held)}
            rows.append({**known, **row(found, data / "check")})
            args.out.write_text(json.dumps(rows, indent=1) + "\n")
            print(json.dumps(rows[-1]), f"{time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
