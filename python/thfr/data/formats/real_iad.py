"""Real-IAD (Wang et al., CVPR 2024): 30 products, each seen by five cameras; the split is a JSON file.

Every view is an image with its own label and mask; a view of a defective object on which no defect is marked
(no ``mask_path``) is good, as for its authors. ``Sample.product`` joins the views of one object; the
sample figures of the paper score an object by the highest score of its views.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thfr.data.base import GOOD, ComponentDataset, Sample
from thfr.data.folders import as_folder, quoted_list, subfolders
from thfr.data.layout import check_listed
from thfr.data.registry import register_dataset
from thfr.errors import InputError
from thfr.io import printable

JSONS = ("realiad_jsons/realiad_jsons", "realiad_jsons")
KINDS = {
    "AK": "pit", "BX": "deformation", "CH": "abrasion", "HS": "scratch", "PS": "damage",
    "QS": "missing parts", "YW": "foreign objects", "ZW": "contamination",
}  # fmt: skip


@register_dataset("real_iad")
@dataclass(frozen=True)
class RealIAD(ComponentDataset):
    """``realiad_1024/<category>/{OK,NG/<kind>}/S0001/*.jpg`` (or ``_512``, ``_256``), masks beside the
    images, and ``realiad_jsons/<category>.json``.
    """

    @classmethod
    def open(cls, root: Path, category: str) -> RealIAD:
        path = _json(root, category)
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
            meta = content["meta"]
            splits = {
                split: [
                    _sample(root / meta["prefix"], meta["normal_class"], split, entry)
                    for entry in content[split]
                ]
                for split in ("train", "test")
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"real_iad: cannot read {printable(path)}: {type(error).__name__}: {error}"
            ) from error
        check_listed("real_iad", printable(path), splits)
        return cls("real_iad", root, category, tuple(splits["train"]), (), tuple(splits["test"]))

    @classmethod
    def locate(cls, root: Path, category: str | None) -> tuple[Path, str]:
        folder = as_folder(root, "load_dataset")
        sizes = [
            path for path in subfolders(folder) if path.name.startswith("realiad_") and _holds_images(path)
        ]
        if len(sizes) > 1:
            found = quoted_list([path.name for path in sizes], "none")
            raise InputError(
                f"load_dataset: {printable(folder)} holds images of several sizes; give one of {found}"
            )
        return super().locate(sizes[0] if sizes else folder, category)

    @classmethod
    def is_category(cls, folder: Path) -> bool:
        return (folder / "OK").is_dir()

    @classmethod
    def hint(cls) -> str:
        return "OK and NG"


def _holds_images(folder: Path) -> bool:
    return any((path / "OK").is_dir() for path in subfolders(folder))


def _json(root: Path, category: str) -> Path:
    tried = [base / part / f"{category}.json" for base in (root.parent, root) for part in JSONS]
    found = next((path for path in tried if path.is_file()), None)
    if found is None:
        raise InputError(f"real_iad: no {category}.json in {printable(root.parent / JSONS[1])}")
    return found


def _sample(folder: Path, normal: str, split: str, entry: dict[str, Any]) -> Sample:
    path, code = folder / entry["image_path"], entry["anomaly_class"]
    kind = GOOD if code == normal or not entry["mask_path"] else KINDS.get(code, code)
    masks = () if kind == GOOD else (folder / entry["mask_path"],)
    product = Path(entry["image_path"]).parent.as_posix()
    return Sample(path, split, kind, path.stem, masks, product=product)
