"""One trial in a process of its own, driven by :mod:`thfr.study.runner`.

The task comes as one line of JSON on stdin, which stays open: its end means that the parent is gone, even by
``kill -9``, and a worker without a parent must not go on writing into a run that the next command takes up.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import sys
import threading
import time
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cosine_similarity

from thfr.data import Dataset, load_dataset, load_images, load_inputs
from thfr.errors import InputError
from thfr.evaluation import evaluate_detector, evaluate_synthetic
from thfr.evaluation.latency import measure_latency
from thfr.methods import Detector
from thfr.methods.common.bank import key_of
from thfr.methods.common.tiles import each_place
from thfr.methods.thfr.detector import THFRDetector
from thfr.runs.folder import read_metadata
from thfr.study.trials import STAGE, Evaluation, Trial, trial_path, write_trial
from thfr.training import train
from thfr.training.memory import peak_memory
from thfr.training.trainer import divide

_BATCH = 8
_TIMED = 9  # passes of which the median counts
PARENT_GONE = 3  # exit code


def main() -> int:
    """Carry out the task on stdin; on failure the reason is one line of JSON on stdout."""
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    trial = Trial.from_definition(task.pop("trial"))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the reason alone
            carry_out(trial, **task)
    except Exception as error:
        traceback.print_exc()
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        print(json.dumps({"reason": reason}))
        return 1
    return 0


def _end_with_parent() -> None:
    # not sys.stdin: its lock, held by a blocked reader, would stop the interpreter's shutdown
    while os.read(0, 1):
        pass
    os._exit(PARENT_GONE)


def carry_out(
    trial: Trial, data: str, run: str, out: str, weights: str | None, device: str, keep_run: bool
) -> None:
    """Train in the folder ``run``, resuming what an earlier process began, evaluate, write the trial."""
    started = time.monotonic()
    dataset = load_dataset(trial.dataset, data, trial.category)
    folder = Path(run)
    used = weights if trial.config.uses_backbone else None
    detector = train(trial.config, dataset, folder, weights=used, device=device, progress=False)
    found = []
    for number, evaluation in enumerate(trial.evaluations, 1):
        print(f"{STAGE}{number} of {len(trial.evaluations)}", file=sys.stderr, flush=True)
        found.append(evaluate(detector, dataset, evaluation, trial.seed))
    results = {
        "trained": detector.config.model_dump(mode="json"),
        "run": read_metadata(folder).as_dict(),
        "results": found,
        "milliseconds": measure_latency(detector, 1, _TIMED)["milliseconds"]["total"]["p50"],
        "seconds": round(time.monotonic() - started, 3),
        "peak_memory_bytes": peak_memory(),
        "versions": versions(detector.device),
    }
    write_trial(trial_path(Path(out), trial), trial, results)
    if not keep_run:
        shutil.rmtree(folder)


def evaluate(detector: Detector, dataset: Dataset, evaluation: Evaluation, seed: int) -> dict[str, Any]:
    """Metrics of the test split, size of the bank, how similar images and their templates are, and figures of
    synthetic anomalies in good images that were not learnt from, where there are two at least.
    """
    started = time.monotonic()
    bank = detector.bank if isinstance(detector, THFRDetector) else None

    def fresh() -> Detector:
        """The detector to evaluate, its random templates at their start."""
        if evaluation.is_plain:
            return detector
        if bank is None or not isinstance(detector, THFRDetector):
            raise InputError(f"study: {detector.config.label} has no templates to choose from")
        chosen = detector
        if evaluation.bank_ratio is not None:
            chosen = detector.with_bank(
                bank.subsample(evaluation.bank_ratio, str(evaluation.bank_method), seed)
            )
        return chosen.shuffled(_image_seed(seed)) if evaluation.templates == "random" else chosen

    return {
        "evaluation": vars(evaluation),
        "templates": fresh().template_count,
        "similarity": None if bank is None else similarity(fresh(), dataset),
        "synthetic": synthetic(fresh(), dataset),
        "metrics": evaluate_detector(fresh(), dataset, batch_size=_BATCH),
        "seconds": round(time.monotonic() - started, 3),
    }


def synthetic(detector: Detector, dataset: Dataset) -> dict[str, Any] | None:
    """:func:`thfr.evaluation.evaluate_synthetic` on the validation images and those held out."""
    _, _, unseen = divide(dataset, detector.config.training)
    if len(unseen) < 2:
        return None
    good = load_inputs(unseen, detector.size, detector.inputs.options)
    return evaluate_synthetic(detector, good.images, good.sizes, batch_size=_BATCH)


def _image_seed(seed: int) -> int:
    """A start for the images' random templates, such that two seeds of a study share none."""
    return seed * 100_000


@torch.inference_mode()
def similarity(detector: Detector, dataset: Dataset) -> dict[str, Any]:
    """Mean cosine similarity of test images and their (first) templates: ``key``, of the retrieval keys, and
    ``levels``, of the features at each location of a level, from fine to coarse (supplement, section 3.2).
    """
    assert isinstance(detector, THFRDetector)
    assert detector.bank is not None
    bank = detector.bank
    images = load_images(dataset.test, detector.size, detector.inputs.options)
    keys, levels = 0.0, [0.0, 0.0, 0.0]
    for start in range(0, len(images), _BATCH):
        for seen, _, _ in each_place(images[start : start + _BATCH], detector.config.model):
            features = detector.features(seen)
            templates = bank.gather(detector.choose_templates(features)[:, 0])
            keys += float((key_of(features, bank.key_cells) * key_of(templates, bank.key_cells)).sum())
            for level, (feature, template) in enumerate(zip(features, templates, strict=True)):
                levels[level] += float(cosine_similarity(feature.float(), template, dim=1).mean((1, 2)).sum())
    count = len(images) * detector.config.model.tile_count
    return {"key": keys / count, "levels": [total / count for total in levels]}


def versions(device: torch.device) -> dict[str, str]:
    """What the figures were computed with."""
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    packages = ("thfr-ext", "torch", "timm", "numpy")
    return {
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
        **gpu,
    }
