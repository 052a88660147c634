"""The hash of a data set's files: what changes it, and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image
from thfr.data import fingerprint, load_dataset
from thfr.data.synth import generate


def test_counts_sizes_and_what_the_hash_depends_on(tmp_path: Path) -> None:
    folder = generate(tmp_path / "here", 4, seed=3)
    facts = fingerprint(load_dataset("mvtec_loco", folder))
    assert facts["train"]["images"] == {"good": 4}
    assert facts["train"]["sizes"] == {"320x320": 4}
    assert facts["test"]["images"] == {"good": 4, "logical_anomalies": 4, "structural_anomalies": 4}
    assert len({split["sha256"] for split in facts.values()}) == 3

    moved = tmp_path / "there" / "synth_tray"
    shutil.copytree(folder, moved)
    assert fingerprint(load_dataset("mvtec_loco", moved)) == facts

    mask = next((moved / "ground_truth").rglob("*.png"))
    Image.open(mask).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mask)
    changed = fingerprint(load_dataset("mvtec_loco", moved))
    assert changed["train"] == facts["train"]
    assert changed["test"]["sha256"] != facts["test"]["sha256"]

    train = moved / "train" / "good"
    (train / "000.png").rename(train / "900.png")
    assert fingerprint(load_dataset("mvtec_loco", moved))["train"]["sha256"] != facts["train"]["sha256"]
