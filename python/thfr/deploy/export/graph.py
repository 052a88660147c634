"""One graph from the image to map, score and verdict, traced from the detector itself."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thfr.deploy.export.operators import nearest_rows, plain_operators, upsample_blur
from thfr.deploy.export.resizing import NativeInput, largest_edge, require_plain
from thfr.errors import InputError
from thfr.methods.base import Detector
from thfr.methods.common.patches import averaged, averaged_grids, concatenated
from thfr.methods.common.tiles import score_tiles_together

LARGEST_BATCH = 1024

#: Method -> why its detector cannot be one graph.
NOT_EXPORTABLE: dict[str, str] = {
    "cflow": "its flows take a batch in pieces, whose number depends on the batch: no one graph",
}


class Graph(nn.Module):
    """Image to map, score and verdict. The detector does what it does in Python, so that no method is written
    twice; only its networks are registered, as the parameters of the graph.
    """

    def __init__(self, detector: Detector[Any], limit: float) -> None:
        super().__init__()
        self.detector, self.limit = detector, limit
        networks = {name: value for name, value in vars(detector).items() if isinstance(value, nn.Module)}
        self.networks = nn.ModuleDict(networks)
        self.score = _SCORERS.get(detector.config.method, _score)

    def forward(
        self,
        image: Tensor,  # uint8 [B,H,W,3], RGB
    ) -> tuple[Tensor, Tensor, Tensor]:  # fp32 [B,H,W], fp32 [B], bool [B]
        anomaly_map, score = self.detector.score_whole(
            image.permute(0, 3, 1, 2), lambda images: self.score(self.detector, images), score_tiles_together
        )
        return anomaly_map, score, score > self.limit


def trace(detector: Detector[Any], limit: float, native: bool = False) -> torch.export.ExportedProgram:
    """The detector as a program of PyTorch's own operators, for batches of 1 to :data:`LARGEST_BATCH`.

    ``limit``: scores above it are called bad. ``native``: images come at their own size, and are resized in
    the graph.

    Raises:
        InputError: the method cannot be one graph, or the detector is not on the CPU in fp32.
    """
    method = detector.config.method
    if method in NOT_EXPORTABLE:
        raise InputError(f"export: {method} cannot be exported: {NOT_EXPORTABLE[method]}")
    if detector.device.type != "cpu" or detector.precision != "fp32":
        got = f"{detector.precision} on {detector.device}"
        raise InputError(f"export: expected a detector in fp32 on the CPU, got {got}")
    graph: nn.Module = Graph(_for_one_size(detector), limit).eval()
    image = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (2, *detector.size, 3), dtype=np.uint8)
    )
    with torch.no_grad(), plain_operators():
        graph(image)  # keys, priors and matrices are made on first use, and must be real tensors
        dynamic: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)}
        if native:
            require_plain(detector)
            graph, most = NativeInput(graph, detector.size), largest_edge(detector.size)
            # edges that differ from each other and from the input's
            image = torch.nn.functional.pad(image, (0, 0, 0, 24, 0, 8))
            for number, name in ((1, "height"), (2, "width")):
                dynamic[number] = torch.export.Dim(name, min=2, max=most)
        program = torch.export.export(graph, (image,), dynamic_shapes=(dynamic,), strict=False)
    # what was made on first use is an inference tensor, which exporters refuse
    constants = program.constants
    constants |= {name: held.clone() for name, held in constants.items() if isinstance(held, Tensor)}
    left = sorted({str(node.target) for node in program.graph.nodes if "thfr_ext" in str(node.target)})
    if left:
        raise NotImplementedError(f"export: no plain form of the operator {', '.join(left)}")
    return program


def _for_one_size(detector: Detector[Any]) -> Detector[Any]:
    """The detector with a backbone whose position embedding needs no resampling."""
    if not detector.config.uses_backbone:
        return detector
    other = copy(detector)
    other._extractor = detector.extractor.fixed(detector.config.model.size)
    return other


Scorer = Callable[[Any, Tensor], tuple[Tensor, Tensor]]


def _score(detector: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    return detector._score(images)


def _score_spade(detector: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """SPADE goes through the images of a batch one by one; a graph takes them together, and one neighbour
    after the other.
    """
    model = detector.config.model
    features = detector.features(images)
    scores, neighbours = detector._nearest_images(features)
    strides = detector.extractor.strides
    levels = averaged(features, strides, model.stride)
    queries = _places(concatenated([level.float() for level in levels]))
    nearest: Tensor | None = None
    for column in range(min(model.image_neighbours, len(detector.keys))):
        chosen = neighbours[:, column]
        bank = _places(concatenated([level[chosen].float() for level in detector.gallery]))
        found = nearest_rows(queries, bank, model.place_neighbours)[0]
        nearest = found if nearest is None else torch.cat([nearest, found], 2)
        nearest = nearest.topk(model.place_neighbours, 2, largest=False).values
    assert nearest is not None
    grid = averaged_grids(model.grids, strides, model.stride)[0]
    maps, _ = upsample_blur([nearest.mean(2).view(-1, *grid)], model.size)
    return maps, scores


def _places(features: Tensor) -> Tensor:  # [B,C,H,W] -> [B,HW,C]
    return features.flatten(2).transpose(1, 2)


_SCORERS: dict[str, Scorer] = {"spade": _score_spade}
