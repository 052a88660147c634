"""The report of a run on its test images: ``thfr report``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thfr.errors import InputError
from thfr.evaluation import evaluate_maps
from thfr.io import read_map
from thfr.predictions.judging import Rules
from thfr.runs import files
from thfr.runs.folder import read_metadata
from thfr.visualization.curves import overlap_curves
from thfr.visualization.findings import with_findings
from thfr.visualization.gallery import Report
from thfr.visualization.plots import kind_label
from thfr.visualization.report import write_report
from thfr.visualization.results import RunResults, open_results


def report_of_run(
    run: Path,
    out: Path | None = None,
    *,
    per_kind: int | None = None,
    data: str | os.PathLike[str] | None = None,
    maps: Path | None = None,
    rules: Rules | None = None,
    device: str = "auto",
    progress: bool = False,
) -> dict[str, Any]:
    """Write what a run finds in its test images as one HTML file (None: ``run/report.html``).

    Args:
        run: folder of :func:`thfr.training.train`, on MVTec AD or MVTec LOCO AD.
        per_kind: images of each kind in the gallery at most; None: all.
        data: the data set's folder, if it moved since training.
        maps: folder of the test images' scores and maps; None: ``run/results``.
        rules: how the findings are made that are drawn and listed; the figures do not depend on them.

    Returns:
        ``report``: the file; ``metrics``: as :func:`thfr.evaluation.evaluate_maps`; ``verdicts``: the number
        of test images by verdict at the decision threshold (empty without one).

    Raises:
        InputError: a run, option or image that cannot be used; the argument is named.
    """
    target = run / files.REPORT if out is None else out
    if target.is_dir():  # said now, not after the work
        raise InputError(f"report: out must be a file to write, got the folder {target}")
    results = open_results("report", run, data, maps=maps, device=device, progress=progress)
    report = make_report(results, per_kind, progress, rules)
    write_report(target, report, progress=progress)
    verdicts = [report.verdict(entry) for entry in report.entries]
    counts = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts) - {""})}
    return {"report": str(target), "metrics": dict(report.metrics or {}), "verdicts": counts}


def make_report(
    results: RunResults,
    per_kind: int | None = None,
    progress: bool = False,
    rules: Rules | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Report:
    """The figures (``metrics``, if they are known), curves, images and findings of a run's test split."""
    dataset, config = results.dataset, results.detector.config
    model = config.model
    maps = {sample: read_map(path) for sample, path in results.maps.items()}
    limit, region = results.detector.threshold, results.detector.inputs.options.region
    metrics = metrics or evaluate_maps(
        dataset,
        maps,
        results.scores,
        threshold=None if limit is None else limit.value,
        region=region,
        progress=progress,
    )
    curves = overlap_curves(dataset, maps, region)
    metadata = read_metadata(results.run)
    entries = results.entries(progress=progress)
    if limit is not None:
        in_order = [maps[sample] for sample in dataset.test]
        entries = with_findings(entries, in_order, limit.value, rules or Rules())
    lines = {
        "method": f"{config.label} ({config.paper})",
        "features": f"{model.backbone}, {model.size_in_words}",
        "templates": f"{results.detector.template_count} good images" if model.uses_templates else "none",
        "training": f"{metadata.images} good images, {metadata.steps} steps on {metadata.device} in "
        f"{metadata.train_seconds:.0f} s",
    }
    if results.detector.template_count and any(entry.template is None for entry in entries):
        lines["nearest good"] = "not shown where the training image has changed since training"
    if results.visualizer is not None:
        lines["restored"] = results.visualizer.note()
    return Report(
        title=f"{kind_label(dataset.category)}: {config.label} on {len(dataset.test)} test images",
        entries=entries,
        scale=results.scale,
        metrics=metrics,
        subtitle=f"{dataset.name}, run {results.run.resolve().name}. The detector has seen {metadata.images} "
        "good images of the product and not one defect.",
        per_kind=per_kind,
        metadata=lines,
        curves=curves,
    )
