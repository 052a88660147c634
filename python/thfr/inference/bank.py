"""A memory of patches, or templates, beyond a machine's memory: written from a run, or from any number of
images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from thfr.banks import BankWriter, FaissBank, ShardedBank, measured_recall
from thfr.data import load_images
from thfr.errors import InputError
from thfr.io import atomic_path, atomic_write_json, find_images, printable
from thfr.methods.common.bank import TemplateBank
from thfr.methods.common.patches import location_vectors
from thfr.methods.common.tiles import tiles_of
from thfr.methods.patchcore import PatchCoreDetector, patch_features
from thfr.methods.thfr.sharded_bank import ShardedTemplateBank, TemplateBankWriter
from thfr.runs.json_file import read_object

INDEX, REPORT = "index.faiss", "recall.json"
_BATCH, _ASKED = 8, 256  # images; patches that the recall is measured on


def write_bank(
    detector: Any,
    out: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    keys: Any = "fp16",
    faiss: str | None = None,
    probes: int = 16,
    progress: bool = False,
) -> dict[str, Any]:
    """Write the memory of a PatchCore run, or the templates of one of THFR or template, as a bank in
    shards.

    Args:
        images: a folder of good images: the bank then holds all of their patches, without a coreset, or all
            of them as templates. Some are held at a time, whatever their number. None: what the run keeps.
        keys: ``fp16`` or ``int8``, see :class:`thfr.banks.BankWriter`.
        faiss: also build an index of that kind (``faiss.index_factory``), and measure its recall against the
            exact search on patches of the bank that a little noise has moved.
        probes: lists that an IVF index looks at.

    Returns:
        ``rows``, ``width``, ``shards``, ``bytes`` and, with an index, ``recall``, that of the nearest row.

    Raises:
        InputError: a run that keeps neither, no image, an index of templates, or ``out`` holds something.
    """
    if isinstance(getattr(detector, "bank", None), TemplateBank):
        if faiss is not None:
            raise InputError("bank: a faiss index is for the patches of PatchCore, got a run with templates")
        return _write_templates(detector, Path(out), images, keys, progress)
    _require_patchcore(detector, "bank")
    with atomic_path(out) as folder:
        with BankWriter(folder, detector.patches.shape[1], "l2", keys) as writer:
            for rows in [detector.patches] if images is None else _patches(detector, images, progress):
                writer.add(rows)
        bank = ShardedBank(folder)
        found: dict[str, Any] = {"rows": len(bank), "width": bank.width, "shards": len(bank.index.shards)}
        if faiss is not None:
            found |= _indexed(bank, folder, faiss, probes)
        found["bytes"] = sum(path.stat().st_size for path in folder.iterdir())
    return found


def _indexed(bank: ShardedBank, folder: Path, factory: str, probes: int) -> dict[str, Any]:
    index = FaissBank.build(bank, factory, probes)
    index.save(folder / INDEX)
    generator = torch.Generator().manual_seed(0)
    asked = bank.rows(torch.randint(len(bank), (_ASKED,), generator=generator)).float()
    noise = torch.randn(asked.shape, generator=generator) * asked.std() * 0.2
    recall = measured_recall(bank, index, asked + noise, 1)
    atomic_write_json(folder / REPORT, {"index": factory, "probes": probes, "recall": recall, "k": 1})
    return {"index": factory, "probes": probes, "recall": recall}


def _write_templates(
    detector: Any, out: Path, images: str | os.PathLike[str] | None, keys: Any, progress: bool
) -> dict[str, Any]:
    held = detector.bank
    with atomic_path(out) as folder:
        writer = TemplateBankWriter(folder, held, keys)
        if images is None:
            for rows in torch.arange(len(held)).split(_BATCH):
                writer.add([level[rows.to(level.device)] for level in held.features], held.indices[rows])
        else:
            done = 0
            for levels in _features(detector, images, progress):
                writer.add(levels, torch.arange(done, done + len(levels[0])))
                done += len(levels[0])
        bank = writer.finish()
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"rows": len(bank), "width": bank.width, "shards": bank.shards, "bytes": size}


def with_bank(detector: Any, folder: str | os.PathLike[str], approximate: bool = False) -> Any:
    """A run that searches a bank of :func:`write_bank` instead of its own memory or templates.

    Raises:
        InputError: a run that keeps neither; no bank there, or one of another kind or width; no index in it.
    """
    if isinstance(getattr(detector, "bank", None), TemplateBank):
        if approximate:
            raise InputError(
                "predict: a faiss index is for the patches of PatchCore, got a run with templates"
            )
        bank = ShardedTemplateBank(folder)
        own = [tuple(level.shape[1:]) for level in detector.bank.features]
        if bank.shapes != own or bank.key_cells != detector.bank.key_cells:
            raise InputError(f"predict: {folder}: expected templates of {own}, got {bank.shapes}")
        other = copy(detector)
        other.bank = bank
        return other
    return _with_patches(detector, folder, approximate)


def _with_patches(detector: Any, folder: str | os.PathLike[str], approximate: bool) -> PatchCoreDetector:
    _require_patchcore(detector, "predict")
    bank = ShardedBank(folder)
    if not approximate:
        return detector.with_bank(bank)  # type: ignore[no-any-return]
    path = Path(folder) / INDEX
    if not path.is_file():
        raise InputError(f"predict: {folder} has no faiss index: `thfr bank --faiss` builds it")
    probes = int(read_object(Path(folder) / REPORT, "bank")["probes"])
    index = FaissBank.load(path, bank)
    if hasattr(index.index, "nprobe"):
        index.index.nprobe = probes
    return detector.with_bank(index)  # type: ignore[no-any-return]


def _require_patchcore(detector: Any, command: str) -> None:
    if not isinstance(detector, PatchCoreDetector):
        kind = getattr(getattr(detector, "config", None), "label", type(detector).__name__)
        raise InputError(
            f"{command}: a bank is the memory of PatchCore or the templates of THFR, got a run of {kind}"
        )


def _patches(
    detector: PatchCoreDetector, images: str | os.PathLike[str], progress: bool
) -> Iterator[Tensor]:  # fp32 [n,D]
    for levels in _features(detector, images, progress):
        yield location_vectors(patch_features(levels, detector.config.model))


def _features(
    detector: Any, images: str | os.PathLike[str], progress: bool
) -> Iterator[list[Tensor]]:  # three [B,C_l,H_l,W_l], of tiles if the run sees images so
    listing = find_images(images, recursive=True)
    if not listing.images:
        raise InputError(f"bank: no image in {printable(images)}")
    starts = range(0, len(listing.images), _BATCH)
    for start in tqdm(starts, "bank", unit="batch", disable=not progress, leave=False):
        some = listing.images[start : start + _BATCH]
        batch = load_images(some, detector.size, detector.inputs.options)
        with torch.inference_mode():
            yield detector.features(tiles_of(batch, detector.config.model))
