"""Score images on a Ray cluster: Ray Data reads them, actors hold the detector, the scores are Parquet.

    python examples/score_on_ray.py --run RUN --images s3://bucket/line3 --out s3://bucket/scores --ray auto
    python examples/score_on_ray.py --out out      # a small run on generated images, Ray on this machine

Scores are those of `thfr predict`, which does the same on one machine (`--stream`) or under torchrun. RUN
must be readable on all machines. Needs thfr-ext[ray].
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from thfr.data.synth import generate
from thfr.inference.scoring import score_items
from thfr.methods import Detector
from thfr.predictions.sources import plain_item

# Of every file that is written: where no image failed, the type of "error" could not be told from its values.
ROWS = pa.schema({"file": pa.string(), "score": pa.float32(), "verdict": pa.string(), "error": pa.string()})


class Score:
    """What an actor does: loads the run once, then has a row for each image of a batch."""

    def __init__(self, run: str, device: str) -> None:
        self.detector = Detector.load(Path(run), device)

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        """``batch``: ``path`` and ``bytes`` of some files."""
        threshold, failed = self.detector.threshold, dict[str, str]()
        with tempfile.TemporaryDirectory() as folder:
            items = []
            for number, (path, content) in enumerate(zip(batch["path"], batch["bytes"], strict=True)):
                file = Path(folder) / f"{number}{Path(path).suffix}"
                file.write_bytes(content)
                items.append(plain_item(file, str(path)))
            rows: list[dict[str, Any]] = [
                {
                    "file": found.item.name,
                    "score": found.score,
                    "verdict": None if threshold is None else threshold.verdict(found.score),
                }
                for found in score_items(self.detector, items, len(items), failed)
            ]
        rows += [{"file": name, "error": reason} for name, reason in failed.items()]
        return pa.Table.from_pylist(rows, schema=ROWS)


def small_run(out: Path) -> tuple[Path, Path]:
    """A run and a folder of images to try it on."""
    from thfr.data import load_dataset
    from thfr.methods.registry import config_from_values
    from thfr.training import train

    dataset = load_dataset("mvtec_loco", generate(out / "data", images=4))
    config = {"method": "patchcore", "model": {"backbone": "tf_efficientnet_lite0", "size": 64}}
    train(config_from_values(config), dataset, out / "run", progress=False)
    return out / "run", dataset.folder / "test"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", help="folder of thfr train (default: a small one is trained)")
    parser.add_argument("--images", help="folder or URL of images (default: generated ones)")
    parser.add_argument("--out", required=True, help="folder or URL for the scores")
    parser.add_argument("--ray", default="local", metavar="ADDRESS", help="of a cluster (default: one here)")
    parser.add_argument("--actors", type=int, default=1, help="detectors at work at once")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: one GPU an actor")
    arguments = parser.parse_args()
    if (arguments.run is None) != (arguments.images is None):
        parser.error("give both --run and --images, or neither")
    run, images, scores = arguments.run, arguments.images, arguments.out
    if run is None:
        run, images = small_run(Path(arguments.out))
        scores = Path(arguments.out) / "scores"

    ray.init(arguments.ray, include_dashboard=False, log_to_driver=False)
    files = ray.data.read_binary_files(
        str(images), include_paths=True, file_extensions=["png", "jpg", "jpeg", "bmp", "tif", "tiff"]
    )
    files.map_batches(
        Score,
        fn_constructor_args=(str(Path(run).absolute()), arguments.device),
        batch_size=arguments.batch_size,
        compute=ray.data.ActorPoolStrategy(size=arguments.actors),
        num_gpus=1 if arguments.device == "cuda" else None,
    ).write_parquet(str(scores))
    ray.shutdown()


if __name__ == "__main__":
    main()
