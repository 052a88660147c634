"""Teach a run good images, such as false alarms, without training: a new run folder beside the old one."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from thfr.data import Loaded, gathered, load_dataset, load_inputs
from thfr.data.parallel import parallel_map
from thfr.deploy.exported import is_exported
from thfr.errors import InputError
from thfr.io import atomic_path, file_sha256, images_of, printable
from thfr.methods import Detector
from thfr.methods.common.batches import held_out
from thfr.methods.common.tiles import tiles_of
from thfr.runs import files
from thfr.runs.digest import file_digests
from thfr.runs.folder import (
    RunData,
    RunMetadata,
    append_log,
    read_data,
    read_metadata,
    write_data,
    write_metadata,
)
from thfr.runs.threshold import DEFAULT_RATE, Threshold, Verdict
from thfr.training.scale import calibrate_without_itself
from thfr.training.trainer import divide

HOLDOUT = 0.2
"""Share of the good images that sets the threshold where the run's own held-out images are not at hand."""
_BATCH = 8

Images = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A folder, with its sub-folders, an image, or several images."""
Role = Literal["taught", "held out", "checked"]


@dataclass(frozen=True)
class Change:
    """What one image was to the run before, and what it is now."""

    image: str
    role: Role
    """``taught``: the run keeps it now; ``held out``: good, and kept by neither; ``checked``: asked for."""
    before: float
    after: float
    verdict_before: Verdict | None
    verdict_after: Verdict | None

    @property
    def changed(self) -> bool:
        """Whether the verdict is another one."""
        return self.verdict_before != self.verdict_after

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "image": self.image,
            "role": self.role,
            "before": {"score": self.before, "verdict": self.verdict_before},
            "after": {"score": self.after, "verdict": self.verdict_after},
            "changed": self.changed,
        }


@dataclass(frozen=True)
class Taught:
    """What :func:`teach` has done."""

    run: Path
    label: str
    metadata: RunMetadata
    before: Threshold | None
    threshold: Threshold
    changes: tuple[Change, ...]
    seconds: float

    def of(self, role: Role) -> list[Change]:
        """The images of one role."""
        return [change for change in self.changes if change.role == role]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run": str(self.run),
            "method": self.label,
            "parent": self.metadata.parent,
            "taught": len(self.of("taught")),
            "learnt_images": self.metadata.images,
            "threshold_before": None if self.before is None else self.before.value,
            "threshold": self.threshold.as_dict(),
            "changed_verdicts": sum(change.changed for change in self.changes),
            "images": [change.as_dict() for change in self.changes],
            "seconds": self.seconds,
            "notes": self.metadata.notes,
        }


def teach(
    run: str | os.PathLike[str],
    good: Images,
    out: str | os.PathLike[str],
    *,
    calibration: Images | None = None,
    check: Sequence[Images] = (),
    holdout: float | None = None,
    rate: float | None = None,
    why: str = "",
    device: str = "auto",
    progress: bool = False,
) -> Taught:
    """Add good images to what a run keeps of good products, without training, and set its threshold again.

    The threshold is set by good images that the new run does not keep: those of ``calibration``, else those
    that the run's training held out, where they still lie where they did, else a share of ``good``. A method
    that can score what it keeps as if it did not (template) needs none: without ``calibration``, ``holdout``
    and images that training held out it does that.

    Args:
        run: folder of a finished training, or of an earlier ``teach``.
        out: folder to make; nothing, or an empty folder, may be there. It is written atomically.
        check: images that are scored before and after, known defects say.
        holdout: share of ``good`` that only sets the threshold; None: nothing, or :data:`HOLDOUT` where there
            are no other images for it.
        rate: share of good images that may be called bad; None: that of the run's threshold.
        why: a person's words, for ``run.json``.

    Raises:
        InputError: run, images or folder cannot be used, the method cannot be taught, or there is no image to
            set the threshold by.
    """
    started, source, target = time.monotonic(), Path(run), Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"teach: out: expected a new or empty folder, got {target}")
    if is_exported(source):
        raise InputError(f"teach: {source} is an exported model: teach its run, and export that again")
    detector, metadata = Detector.load(source, device), read_metadata(source)
    detector.require_one_category("teach")
    plan = _planned(source, detector, metadata, good, calibration, holdout)
    notes = plan.notes
    checked = [path for images in check if images for path in images_of("teach", images, notes)]
    lists = [plan.taught, plan.held, checked]
    pixels = [_read(detector, paths, notes, progress) if paths else None for paths in lists]
    model = detector.config.model
    tiles = tiles_of(_given(pixels[0]).images, model)
    taught = detector.taught(tiles, metadata.images * model.tile_count)
    wanted = rate or (DEFAULT_RATE if detector.threshold is None else detector.threshold.wanted_rate)
    if (held := pixels[1]) is None:
        calibrate_without_itself(taught, wanted)
    else:
        taught.calibrate(held.images, wanted, "good images not learnt from", sizes=held.sizes)
    threshold = taught.threshold
    assert threshold is not None  # both set it
    changes: list[Change] = []
    roles: tuple[Role, ...] = ("taught", "held out", "checked")
    for role, paths, images in zip(roles, lists, pixels, strict=True):
        if images is not None:
            changes += _changes(role, paths, images, detector, taught, progress)
    found = _metadata(metadata, source, detector, taught, plan, why, round(time.monotonic() - started, 3))
    _write(target, taught, found, source)
    return Taught(
        target, taught.label, found, detector.threshold, threshold, tuple(changes), found.taught_seconds
    )


@dataclass(frozen=True)
class _Plan:
    """Which images are taught, and which set the threshold; SHA-256 of the taught ones."""

    taught: list[Path]
    digests: list[str]
    held: list[Path]
    notes: list[str]


def _planned(
    run: Path,
    detector: Detector[Any],
    metadata: RunMetadata,
    good: Images,
    calibration: Images | None,
    holdout: float | None,
) -> _Plan:
    notes: list[str] = []
    paths = images_of("teach", good, notes)
    data = read_data(run) if (run / files.DATA).is_file() else None
    known = {str(one["sha256"]) for one in metadata.taught}
    if data is not None and data.train is not None:
        known |= set(divide(data.train, detector.config.training)[0])
    fresh: dict[str, Path] = {}
    for path, digest in zip(paths, parallel_map(file_sha256, paths), strict=True):
        if digest not in known:
            fresh.setdefault(digest, path)
    if not fresh:
        raise InputError(f"teach: {run} has learnt from each of the {len(paths)} image(s) already")
    if len(fresh) < len(paths):
        notes.append(f"{len(paths) - len(fresh)} image(s) left out: given twice, or learnt from already")
    if calibration is not None:
        held = images_of("teach", calibration, notes)
    else:
        held = _held_by_training(run, detector, data, notes)
    digests = parallel_map(file_sha256, held) if held else []
    held = [path for path, digest in zip(held, digests, strict=True) if digest not in known | fresh.keys()]
    without = not held and detector.config.leaves_out
    share = holdout if holdout is not None else (0.0 if held or without else HOLDOUT)
    aside: set[int] = set()
    if share > 0:
        count = held_out(len(fresh), share, detector.config.training.seed).tolist()
        aside = set(count) or ({len(fresh) - 1} if not held and len(fresh) > 1 else set())
    chosen = [digest for number, digest in enumerate(fresh) if number not in aside]
    held += [path for number, path in enumerate(fresh.values()) if number in aside]
    if not chosen or not (held or without):
        raise InputError(
            "teach: expected good images to set the threshold by: those that training held out are gone, "
            f"and {len(fresh)} image(s) are too few to set one aside; give --calibration FOLDER"
        )
    return _Plan([fresh[digest] for digest in chosen], chosen, held, notes)


def _held_by_training(
    run: Path, detector: Detector[Any], data: RunData | None, notes: list[str]
) -> list[Path]:
    """The good images that the run's training set its threshold by; none where they are not to be found, or
    are not those that they were.
    """
    if data is None or data.train is None:
        return []
    settings = detector.config.training
    try:
        dataset = load_dataset(data.dataset, data.root, data.category)
        unseen = [sample.path for sample in divide(dataset, settings)[2]]
        expected = divide(data.train, settings)[2]
        same = len(dataset.train) == len(data.train)
        same = same and parallel_map(file_sha256, unseen[: len(expected)]) == list(expected)
    except InputError as error:
        notes.append(f"the images that training held out are not at hand: {error}")
        return []
    if not same:
        notes.append("the images that training held out are not used: the data set has changed since")
        return []
    return unseen


def _read(detector: Detector[Any], paths: Sequence[Path], notes: list[str], progress: bool) -> Loaded:
    loaded = load_inputs(paths, detector.size, detector.inputs.options, progress=progress)
    notes += gathered(loaded.notes)
    return loaded


def _given(images: Loaded | None) -> Loaded:
    assert images is not None  # the plan has some
    return images


def _changes(
    role: Role,
    paths: Sequence[Path],
    images: Loaded,
    before: Detector[Any],
    after: Detector[Any],
    progress: bool,
) -> list[Change]:
    found = []
    steps = range(0, len(paths), _BATCH)
    for start in tqdm(steps, f"compare: {role}", disable=not progress, leave=False):
        some = slice(start, start + _BATCH)
        batch, sizes = images.images[some], images.sizes[some]
        old, new = (one.score_prepared(batch, sizes)[1].tolist() for one in (before, after))
        for path, was, now in zip(paths[some], old, new, strict=True):
            verdicts = [
                None if one.threshold is None else one.threshold.verdict(score)
                for one, score in ((before, was), (after, now))
            ]
            found.append(Change(str(path), role, was, now, *verdicts))
    return found


def _metadata(
    old: RunMetadata,
    run: Path,
    before: Detector[Any],
    after: Detector[Any],
    plan: _Plan,
    why: str,
    seconds: float,
) -> RunMetadata:
    """Of the new run. What the method told of its fitting is in the parent's."""
    parent = {"run": run.resolve().name, "digest": before.digest, "images": old.images}
    told = {name: getattr(old, name) for name in RunMetadata.model_fields if name in old.model_fields_set}
    added = [
        {"file": printable(path.name), "sha256": digest}
        for path, digest in zip(plan.taught, plan.digests, strict=True)
    ]
    told |= {
        "images": old.images + len(plan.taught),
        "calibration_images": len(plan.held),
        "parent": parent,
        "lineage": [*old.lineage, parent],
        "taught": [*old.taught, *added],
        "taught_seconds": seconds,
        "why": why,
        "notes": plan.notes,
    }
    if old.templates is not None:
        told["templates"] = after.template_count
    return RunMetadata(**told)


def _write(target: Path, detector: Detector[Any], metadata: RunMetadata, source: Path) -> None:
    if target.is_dir():
        target.rmdir()  # Windows puts no folder in the place of an empty one
    with atomic_path(target) as folder:
        folder.mkdir()
        detector.save(folder)
        if (source / files.DATA).is_file():
            write_data(folder, read_data(source))
        whole = metadata.model_copy(update={"digests": file_digests(folder)})
        append_log(folder, finished=True, **whole.as_dict())
        write_metadata(folder, whole)
