"""Scoring as one CUDA graph: for small batches, whose launches take the CPU longer than the GPU computes."""

from __future__ import annotations

import torch
from torch import Tensor

from thfr.errors import InputError
from thfr.methods import Detector


class GraphedScorer:
    """:meth:`Detector.score_prepared` for batches of one size, captured once and replayed.

    Raises:
        InputError: the detector is not on a GPU, or the batch size is not positive.
    """

    def __init__(self, detector: Detector, batch: int) -> None:
        if detector.device.type != "cuda":
            raise InputError(f"GraphedScorer: needs a detector on CUDA, got one on {detector.device}")
        if batch < 1:
            raise InputError(f"GraphedScorer: batch must be at least 1, got {batch}")
        shape = (batch, 3, *detector.size)
        self._images = torch.zeros(shape, dtype=torch.uint8, device=detector.device)
        side = torch.cuda.Stream(detector.device)
        side.wait_stream(torch.cuda.current_stream(detector.device))
        with torch.cuda.stream(side):  # what is made once (keys, matrices, workspaces) must be there before
            for _ in range(3):
                detector.score_prepared(self._images)
        torch.cuda.current_stream(detector.device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._maps, self._scores = detector.score_prepared(self._images)

    @torch.inference_mode()
    def __call__(
        self,
        images: Tensor,  # uint8 [B,3,H,W], anywhere
    ) -> tuple[Tensor, Tensor]:  # fp32 [B,H,W] and [B] on the GPU, valid until the next call
        """Anomaly maps and scores. Raises ValueError if the images are not of the captured shape."""
        if images.dtype != torch.uint8 or images.shape != self._images.shape:
            raise ValueError(
                f"GraphedScorer: images must be uint8 {list(self._images.shape)}, "
                f"got {images.dtype} {list(images.shape)}"
            )
        self._images.copy_(images, non_blocking=True)
        self._graph.replay()
        return self._maps, self._scores
