"""What ``thfr export`` does: trace, write, load, compare, and only then name the folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from thfr.deploy import files
from thfr.deploy.export import formats
from thfr.deploy.export.graph import trace
from thfr.deploy.export.images import calibration_paths
from thfr.deploy.export.parity import Parity, compare
from thfr.deploy.export.resizing import largest_edge
from thfr.deploy.exported import load
from thfr.errors import InputError
from thfr.io import atomic_path, atomic_write_json, file_sha256, read_image
from thfr.io.framing import FILL
from thfr.io.sizes import plain
from thfr.methods.base import Detector
from thfr.runs.threshold import Threshold
from thfr.training.scale import good_scale

MARGIN = 1e-5
"""How far above the run's threshold the exported one lies, as a share of the largest calibration score."""


_SEEN = ("mean", "std")
_CALIBRATION = 64  # images that set the ranges of an int8 model
_BOX = (
    "scale = min(H / height, W / width); round(height * scale) x round(width * scale) pixels, half to even, "
    "in the middle: top = (H - h) // 2, left = (W - w) // 2"
)


class GateFailed(RuntimeError):
    """The exported model does not say what the run says; nothing was written. ``parity`` has the figures."""

    def __init__(self, parity: Parity) -> None:
        super().__init__("export: the exported model differs from the run: " + "; ".join(parity.failures()))
        self.parity = parity


def export_run(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    format: str = "onnx",
    images: str | os.PathLike[str] | None = None,
    precision: str = "fp32",
    native: bool = False,
) -> dict[str, Any]:
    """Write a run as one graph with its metadata and the proof that it says what the run says.

    Args:
        run: folder of a finished training, with a threshold.
        out: folder to make; nothing, or an empty folder, may be there.
        format: one of :data:`thfr.deploy.export.formats.FORMATS`.
        images: folder of good images to compare on; None: those that set the run's threshold.
        precision: ``int8`` (ONNX: convolutions, calibrated on the same good images) and ``bf16`` (OpenVINO,
            on processors that have it) are faster, and held to wider limits
            (:data:`thfr.deploy.export.parity.LIMITS`).
        native: the graph takes images at their own size and resizes them itself.

    Returns:
        What ``export.json`` holds, and ``parity``: what ``parity.json`` does.

    Raises:
        InputError: run, folder or images cannot be used, the method cannot be exported, or a package of the
            format is absent.
        GateFailed: the exported model differs by more than is allowed. Nothing is left in ``out``.
    """
    target, source = Path(out), Path(run)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"export: out must be a new or empty folder, got {target}")
    formats.require(format, precision)
    if native and precision == "bf16":
        raise InputError("export: --input native: its resize needs fp32, got --bf16")
    detector = Detector.load(source, "cpu")
    detector.require_one_category("export")
    threshold = detector.threshold
    if threshold is None:
        raise InputError(
            f"export: {source} has no threshold, so no verdicts; set it first: thfr calibrate {source} IMAGES"
        )
    paths, words = calibration_paths(source, detector, images)
    limit = exported_limit(threshold)
    program = trace(detector, limit, native)
    _remove_left_over(target)
    with atomic_path(target) as folder:
        folder.mkdir()
        calibration = _calibration(detector, paths) if precision == "int8" else ()
        written = formats.write(program, format, folder, calibration)
        metadata = _metadata(source, detector, threshold, limit, format, written, folder)
        metadata["precision"] = precision
        if native:
            _say_native(metadata, largest_edge(detector.size))
        atomic_write_json(folder / files.METADATA, metadata)
        parity = compare(detector, load(folder), paths, words, precision)
        if not parity.passed:
            raise GateFailed(parity)
        atomic_write_json(folder / files.PARITY, parity.as_dict())
    return {**metadata, "parity": parity.as_dict()}


def exported_limit(threshold: Threshold) -> float:
    """The limit of the exported verdicts, a float32.

    The run's is the score of one of its calibration images, so that rounding alone would decide about that
    image. This one lies a hair above, but always below the next calibration score.
    """
    scores = np.asarray(threshold.scores)
    wanted = threshold.value + MARGIN * float(np.abs(scores).max())
    following = min(scores[scores > threshold.value], default=np.inf)
    limit = np.float32(min(wanted, (threshold.value + float(following)) / 2))
    return float(limit if limit < following else np.float32(threshold.value))


def _calibration(detector: Detector[Any], paths: Sequence[Path]) -> list[np.ndarray]:
    """Good images as the graph takes them, uint8 [H,W,3]: at most :data:`_CALIBRATION`, evenly spread."""
    step = max(1, len(paths) // _CALIBRATION)
    some = [read_image(path, detector.inputs.options) for path in paths[::step][:_CALIBRATION]]
    return list(detector.framed(some))


def _remove_left_over(target: Path) -> None:
    """Remove temporary folders of exports to the same place that were killed."""
    for folder in target.parent.glob(f".{target.stem}.????????????{target.suffix}"):
        if folder.is_dir():
            shutil.rmtree(folder)


def _metadata(
    run: Path,
    detector: Detector[Any],
    threshold: Threshold,
    limit: float,
    format: str,
    written: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    scale = detector.scale or good_scale(detector)  # of a run that did not store its own
    return {
        "version": files.FORMAT_VERSION,
        "format": format,
        "method": detector.config.label,
        "model": detector.config.summary(),
        "dataset": detector.config.dataset,
        "size": plain(detector.size),
        "input": {
            "name": "image",
            "dtype": "uint8",
            "shape": ["batch", *detector.size, 3],
            "layout": "NHWC",
        },
        "outputs": {
            "map": "float32 [batch,height,width]: larger is more anomalous",
            "score": "float32 [batch]; " + _score_words(detector),
            "verdict": "bool [batch]: true is bad, that is score > threshold.limit",
        },
        "preprocessing": _preprocessing(detector),
        "threshold": {"limit": limit, **threshold.as_dict()},
        "scale": None if scale is None else scale.as_dict(),
        "inputs": detector.inputs.as_dict(),
        "digests": {
            **{path.name: file_sha256(path) for path in sorted(folder.iterdir())},
            **{f"run/{path.name}": file_sha256(path) for path in sorted(run.glob("*.safetensors"))},
        },
        "versions": {"thfr-ext": version("thfr-ext"), **written},
    }


def _say_native(metadata: dict[str, Any], most: int) -> None:
    """The metadata of a graph that resizes by itself."""
    metadata["native_input"] = True
    metadata["input"] |= {"shape": ["batch", "height", "width", 3], "largest_edge": most}
    metadata["preprocessing"]["in_graph"].insert(0, "resize")


def _score_words(detector: Detector[Any]) -> str:
    """What the graph's score is the maximum of."""
    if detector.inputs.options.fit == "letterbox":
        return "of the whole input: take the maximum of the map over the image's box (and region) instead"
    if detector.inputs.options.region is not None or detector.config.model.tile_count > 1:
        return "the maximum of the map over what counts"
    return "the method's own"


def _preprocessing(detector: Detector[Any]) -> dict[str, Any]:
    """What happens to an image before the network, as data; ``in_graph``: what the model does itself."""
    extractor = getattr(detector, "extractor", None) if detector.config.uses_backbone else None
    seen = {} if extractor is None else {name: getattr(extractor, name).flatten().tolist() for name in _SEEN}
    options = detector.inputs.options
    region = {} if options.region is None else {"region": {"before": "resize", "fill": list(FILL)}}
    return {
        "colour_order": "RGB",
        "decoding": "8 bits a channel: high byte of 16, grey repeated, alpha dropped, EXIF ignored",
        "resize": {
            "height": detector.size[0],
            "width": detector.size[1],
            "keeps_aspect_ratio": options.fit == "letterbox",
            **({"box": _BOX, "fill": list(FILL)} if options.fit == "letterbox" else {}),
            "filter": "bilinear",
            "antialias": True,
            "implementation": "Pillow Image.resize(BILINEAR), across and then down: two fixed-point passes, "
            "each rounded to 8 bits; one call would choose the order by shape from Pillow 13 on",
        },
        **region,
        "scale": 1 / 255,
        **seen,
        "in_graph": ["scale", *seen],
        "native_map": "bilinear from the input, letterboxed from the image's box in it, to the image's size, "
        "align_corners=False, no antialiasing",
    }
