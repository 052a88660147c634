"""The accuracy table: sets x backbones x variants x seeds on the small real sets, with time and memory.

    python benchmarks/accuracy.py OUT [--seeds 0 1 2] [--sets ...] [--backbones ...] [--variants ...]

Every run is its own process, so that its peak memory is its own. Finished runs are kept in OUT/runs and not
repeated: the same command goes on after an interruption. Writes OUT/accuracy.json and OUT/accuracy.md.

``thfr-shuffled`` is no training of its own: the detector of ``thfr`` with a random template for every image.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SETS = {
    "bottle": ("mvtec_ad", "bottle"),
    "transistor_reduced": ("mvtec_ad", "transistor_reduced"),
    "juice_bottle": ("mvtec_loco", "juice_bottle"),
}
METRICS = ("image_auroc", "pixel_auroc", "au_pro")
RESNET18 = "weights/resnet18_imagenet_timm_features.safetensors"


def evaluate(detector: Any, dataset: Any, templates: str, seed: int) -> dict[str, float]:
    """Metrics of the test split at native mask size; the image score is the map's maximum at input size."""
    import numpy as np
    from thfr.io import read_image

    import thfr_ext

    maps, scores, regions = [], [], []
    for start in range(0, len(dataset.test), 16):
        samples = dataset.test[start : start + 16]
        given = detector.score(
            [read_image(s.path) for s in samples], templates=templates, seed=seed * 10_000 + start
        )
        maps += given.maps
        scores.append(given.scores)
        regions += [dataset.regions(sample) for sample in samples]
    labels = np.array([sample.is_anomalous for sample in dataset.test])
    masks = np.concatenate([region.masks.any(axis=0).ravel() for region in regions])
    pixels = np.concatenate([single.ravel() for single in maps])
    area = thfr_ext.au_spro(
        maps, [r.masks for r in regions], [np.array(r.saturations) for r in regions], limits=(0.3,)
    )
    return {
        "image_auroc": float(thfr_ext.auroc(np.concatenate(scores), labels)),
        "pixel_auroc": float(thfr_ext.auroc(pixels, masks)),
        "au_pro": float(area[0.3]),
    }


def one_run(arguments: dict[str, Any]) -> None:
    """In a process of its own: train, evaluate, write one JSON file."""
    import torch
    from thfr.config import ModelConfig, RunConfig, TrainingConfig
    from thfr.data import load_dataset
    from thfr.io import atomic_write_json
    from thfr.training import train

    torch.set_num_threads(arguments["threads"])
    shared, out = Path(arguments["shared"]), Path(arguments["out"])
    name, category = SETS[arguments["set"]]
    dataset = load_dataset(name, shared / "data" / name, category)
    config = RunConfig(
        model=ModelConfig(variant=arguments["variant"], backbone=arguments["backbone"]),
        training=TrainingConfig(seed=arguments["seed"]),
    )
    weights = shared / RESNET18 if arguments["backbone"] == "resnet18" else None
    run = out.with_suffix(".run")
    detector = train(config, dataset, run, weights=weights, device="cpu", progress=False)
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    result = {"facts": facts, "nearest": evaluate(detector, dataset, "nearest", arguments["seed"])}
    if config.model.uses_templates:
        result["shuffled"] = evaluate(detector, dataset, "random", arguments["seed"])
    atomic_write_json(out, arguments | {"shared": "", "out": out.name} | result)
    shutil.rmtree(run)


def table(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the seeds, one row for each set, backbone and variant."""
    rows = []

    def group(result: dict[str, Any]) -> tuple[str, ...]:
        return result["set"], result["backbone"], result["variant"]

    for (which, backbone, variant), found in itertools.groupby(sorted(results, key=group), group):
        runs = list(found)
        for control in ("nearest", "shuffled"):
            if control not in runs[0]:
                continue
            row: dict[str, Any] = {"set": which, "backbone": backbone, "seeds": [run["seed"] for run in runs]}
            row["variant"] = variant if control == "nearest" else f"{variant}-shuffled"
            for metric in METRICS:
                values = [run[control][metric] for run in runs]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                row[metric] = {"mean": statistics.mean(values), "std": spread, "values": values}
            row["train_seconds"] = statistics.mean(run["facts"]["train_seconds"] for run in runs)
            row["peak_memory_bytes"] = max(run["facts"]["peak_memory_bytes"] for run in runs)
            row["precision"] = runs[0]["facts"]["precision"]
            row["steps"] = runs[0]["facts"]["steps"]
            rows.append(row)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| set | backbone | variant | image AUROC | pixel AUROC | AU-PRO(0.3) | seeds | train s | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [row["set"], row["backbone"], row["variant"]]
        cells += [f"{row[metric]['mean']:.3f} ± {row[metric]['std']:.3f}" for metric in METRICS]
        cells += [
            str(len(row["seeds"])),
            f"{row['train_seconds']:.0f}",
            f"{row['peak_memory_bytes'] / 2**20:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(out: Path, threads: int) -> None:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((out / "runs").glob("*.json"))]
    rows = table(results)
    machine = {"machine": platform.machine(), "threads": threads, "python": platform.python_version()}
    (out / "accuracy.json").write_text(
        json.dumps({"host": machine, "rows": rows}, indent=2) + "\n", encoding="utf-8"
    )
    (out / "accuracy.md").write_text(markdown(rows), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "tf_efficientnet_lite0"])
    parser.add_argument("--variants", nargs="+", default=["thfr", "gl"])
    parser.add_argument("--threads", type=int, default=2, help="torch threads of a run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; times then tell little")
    parser.add_argument(
        "--shared", type=Path, default=Path(os.environ.get("THFR_SHARED", ROOT.parent / "shared"))
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_run(json.loads(options.one))
        return 0
    (options.out / "runs").mkdir(parents=True, exist_ok=True)
    grid = itertools.product(options.seeds, options.sets, options.backbones, options.variants)
    waiting: list[tuple[str, dict[str, Any]]] = []
    for seed, which, backbone, variant in grid:
        path = options.out / "runs" / f"{which}-{backbone}-{variant}-{seed}.json"
        if not path.is_file():
            arguments = {"set": which, "backbone": backbone, "variant": variant, "seed": seed}
            arguments |= {"threads": options.threads, "shared": str(options.shared), "out": str(path)}
            waiting.append((path.stem, arguments))
    running: dict[str, subprocess.Popen[bytes]] = {}
    failed: list[str] = []
    while waiting or running:
        while waiting and len(running) < options.jobs:
            name, arguments = waiting.pop(0)
            command = [sys.executable, __file__, str(options.out), "--one", json.dumps(arguments)]
            running[name] = subprocess.Popen(command)
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                failed += [name] if process.returncode else []
                write(options.out, options.threads)
                state = "failed" if process.returncode else "done"
                print(f"{name}: {state}, {len(waiting) + len(running)} to go", flush=True)
        time.sleep(0.5)
    write(options.out, options.threads)
    print((options.out / "accuracy.md").read_text(encoding="utf-8"))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
