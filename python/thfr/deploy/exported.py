"""Scoring with an exported model: needs NumPy, Pillow and the runtime of its format, no torch.

model = load("exported")
found = model.score([image])      # uint8 RGB [H,W,3]
found.scores, found.maps, found.verdicts
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from thfr.deploy import files
from thfr.errors import InputError
from thfr.io.framing import box_of, counted, native_counted
from thfr.predictions.arrays import Answer, ArrayScorer
from thfr.predictions.scale import ColourScale
from thfr.runs.inputs import RunInputs
from thfr.runs.threshold import Threshold

Verdict = Literal["good", "bad"]
_Outputs = tuple[np.ndarray, np.ndarray, np.ndarray]  # fp32 [B,H,W], fp32 [B], bool [B]
_Runner = Callable[[np.ndarray], _Outputs]  # uint8 [B,H,W,3]


@dataclass(frozen=True)
class ExportedScores:
    """Anomaly maps at each image's own size, one score and one verdict an image."""

    maps: list[np.ndarray]  # float32 [H_i,W_i]
    scores: np.ndarray  # float32 [B]
    verdicts: list[Verdict]


class ExportedModel(ArrayScorer):
    """An exported folder, loaded. ``metadata`` is what its ``export.json`` holds, ``size``
    (height, width) of the input in pixels, ``limit`` the score above which an image is bad.
    """

    speaker = "ExportedModel"

    def __init__(self, folder: Path, metadata: dict[str, Any], runner: _Runner) -> None:
        self.folder, self.metadata = folder, metadata
        size = metadata["size"]  # one number in older exports, which are square
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        held = dict(metadata["threshold"])
        self.limit = value = float(held.pop("limit"))  # of the exported verdicts
        self.threshold = Threshold(**{**held, "value": value, "scores": tuple(held["scores"])})
        held, inputs = metadata["scale"], metadata.get("inputs")
        self.scale = None if held is None else ColourScale(**held)
        self.inputs = RunInputs() if inputs is None else RunInputs.from_dict(inputs)  # None: version 0.2
        self.precision = str(metadata.get("precision", "fp32"))  # or bf16, int8
        self.label: str = metadata["method"]  # and its variant, in words
        self.digest: str = metadata["digests"][files.MODELS[metadata["format"]]]
        self._run = runner

    def score_read(
        self,
        pixels: np.ndarray,  # uint8 [B,H,W,3]
        sizes: Sequence[tuple[int, int]],
    ) -> Iterator[Answer]:
        maps, scores, _ = self.score_prepared(pixels)
        for single, score, size in zip(maps, scores, sizes, strict=True):
            yield self._native(single, float(score), size)

    def _native(
        self,
        single: np.ndarray,  # float32 [H,W]
        score: float,
        size: tuple[int, int],
    ) -> Answer:
        """The map over an image of ``size`` (height, width), and its score: the graph does not know where in
        the input a letterboxed image lies.
        """
        options = self.inputs.options
        if options.fit == "letterbox":
            inside = counted(size, self.size, options.fit, options.region)
            if inside is not None:
                score = float(single[inside].max())
                single = np.where(inside, single, single[inside].min())
        box = box_of(size, self.size, options.fit)
        return Answer(native_counted(resampled(single[box.slices], size), options.region), score)

    def good_maps(self) -> None:
        """An exported model keeps no images to make maps of; see :attr:`scale`."""
        return

    def prepare(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """RGB images [h,w,3] as the graph takes them, uint8 [B,H,W,3]; see :meth:`framed`."""
        return self.framed(images)

    def score_prepared(
        self,
        images: np.ndarray,  # uint8 [B,H,W,3]
    ) -> _Outputs:
        """Maps fp32 [B,H,W], scores fp32 [B] and whether each is bad, bool [B], of images at input size."""
        if images.dtype != np.uint8 or images.shape[1:] != (*self.size, 3):
            raise ValueError(
                f"ExportedModel: images must be uint8 [B,{self.size[0]},{self.size[1]},3], "
                f"got {images.dtype} {list(images.shape)}"
            )
        return self._run(images)

    def score(
        self,
        images: Sequence[np.ndarray],  # uint8 [H_i,W_i,3], RGB
        batch_size: int = 8,
    ) -> ExportedScores:
        """Anomaly maps at each image's own size (bilinear from the input size), scores and verdicts."""
        answers = self._answers(images, batch_size)
        scores = np.array([one.score for one in answers], dtype=np.float32)
        verdicts: list[Verdict] = ["bad" if bad else "good" for bad in scores > np.float32(self.limit)]
        return ExportedScores([one.map for one in answers], scores, verdicts)


class NativeModel(ExportedModel):
    """One that takes images at their own size: its graph resizes them."""

    def _answers(self, images: Sequence[np.ndarray], batch_size: int) -> list[Answer]:
        """One image after the other, since their sizes differ."""
        most, answers = int(self.metadata["input"]["largest_edge"]), list[Answer]()
        for index, image in enumerate(self._pixels(images)):
            if max(image.shape) > most:
                got = list(image.shape)
                raise InputError(
                    f"ExportedModel: images[{index}] must have edges of at most {most}, got {got}"
                )
            anomaly_map, score, _ = self._run(image[None])
            answers.append(Answer(resampled(anomaly_map[0], image.shape[:2]), float(score[0])))
        return answers


def resampled(
    anomaly_map: np.ndarray,  # float32 [h,w]
    size: tuple[int, ...],  # (H, W)
) -> np.ndarray:  # float32 [H,W]
    """Bilinear, as ``torch.nn.functional.interpolate(..., align_corners=False)`` does it, in fp32.

    Equal to the last bits where torch's build fuses multiplication and addition; elsewhere a place may round
    differently, by 1e-6 of the edge.
    """
    (top, bottom, down), (left, right, across) = (
        _taps(edge, wanted) for edge, wanted in zip(anomaly_map.shape, size, strict=True)
    )
    rows = anomaly_map[:, left] * (1 - across) + anomaly_map[:, right] * across
    return rows[top] * (1 - down)[:, None] + rows[bottom] * down[:, None]


def _taps(source: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of ``size`` outputs the two inputs between which it lies, and the share of the second."""
    scale = np.float64(np.float32(source) / np.float32(size))
    # torch's kernel multiplies and subtracts in one step, rounded once to fp32
    exact = scale * (np.arange(size) + 0.5) - 0.5
    places = np.maximum(exact.astype(np.float32), 0)
    first = np.minimum(places.astype(np.int64), source - 1)
    return first, np.minimum(first + 1, source - 1), (places - first.astype(np.float32)).astype(np.float32)


def is_exported(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is one of ``thfr export`` (else it may be a run)."""
    return (Path(folder) / files.METADATA).is_file()


def load(folder: str | os.PathLike[str], threads: int | None = None) -> ExportedModel:
    """Open a folder of ``thfr export``.

    Args:
        folder: with ``export.json`` and the model.
        threads: that the runtime may use; None: as many as it likes.

    Raises:
        InputError: not such a folder, one of a newer version, a damaged one, or the runtime is absent.
    """
    path = Path(folder) / files.METADATA
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        version, kind = int(metadata["version"]), str(metadata["format"])
        model = Path(folder) / files.MODELS[kind]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"load: expected a folder of thfr export, got {folder}: {error}") from error
    if version > files.FORMAT_VERSION:
        raise InputError(
            f"load: {folder} has version {version}, this program reads up to {files.FORMAT_VERSION}"
        )
    if not model.is_file():
        raise InputError(f"load: {folder} holds no {model.name}")
    try:
        runner = _RUNNERS[kind](model, threads, str(metadata.get("precision", "fp32")))
    except ImportError as error:
        extra = f"pip install 'thfr-ext[{kind}]'" if kind != "torch" else "pip install torch"
        raise InputError(f"load: the runtime of the {kind} model in {folder} is absent: {extra}") from error
    except Exception as error:  # each runtime has its own
        raise InputError(f"load: {model} cannot be read: {type(error).__name__}: {error}") from error
    kind_of_model = NativeModel if metadata.get("native_input") else ExportedModel
    try:
        return kind_of_model(Path(folder), metadata, runner)
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"load: {path} cannot be read: {type(error).__name__}: {error}") from error


def open_detector(folder: str | os.PathLike[str], device: str = "auto", precision: str = "fp32") -> Any:
    """What is in a folder: the :class:`thfr.methods.Detector` of a run, or an :class:`ExportedModel`. Both
    have ``score``, ``threshold``, ``good_maps`` and ``size``, which is all that ``predict`` needs.

    Raises:
        InputError: neither can be loaded; or an exported model was asked for in another precision than fp32
            or on CUDA.
    """
    if is_exported(folder):
        if device == "cuda" or precision != "fp32":
            raise InputError(
                f"load: {folder} is an exported model, which computes in fp32 on the CPU; got {precision} "
                f"on {device}"
            )
        return load(folder)
    from thfr.methods.base import Detector

    return Detector.load(Path(folder), device, precision)  # type: ignore[arg-type]


def _onnx_runner(model: Path, threads: int | None, precision: str) -> _Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(os.fspath(model), options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> _Outputs:
        found = session.run(["map", "score", "verdict"], {"image": images})
        return found[0], found[1], found[2]

    return run


def _openvino_runner(model: Path, threads: int | None, precision: str) -> _Runner:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    outputs = [compiled.output(name) for name in ("map", "score", "verdict")]

    def run(images: np.ndarray) -> _Outputs:
        found = compiled([images])
        anomaly_map, score, bad = (np.array(found[output]) for output in outputs)
        return anomaly_map, score, bad.astype(bool)

    return run


def _torch_runner(model: Path, threads: int | None, precision: str) -> _Runner:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    program = torch.export.load(model).module()

    def run(images: np.ndarray) -> _Outputs:
        with torch.inference_mode():
            anomaly_map, score, bad = program(torch.from_numpy(images))
        return anomaly_map.numpy(), score.numpy(), bad.numpy()

    return run


_RUNNERS: dict[str, Callable[[Path, int | None, str], _Runner]] = {
    "onnx": _onnx_runner,
    "openvino": _openvino_runner,
    "torch": _torch_runner,
}
