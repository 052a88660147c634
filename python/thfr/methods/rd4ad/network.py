"""The student of RD4AD: from a frozen teacher's three levels through one narrow embedding back to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from thfr.methods.common.residual import BlockKind, ResampledBlock, Resampling, conv_bn
from thfr.methods.common.resolution import cut


@dataclass(frozen=True)
class Mirror:
    """What a decoder must be to be a backbone read backwards."""

    kind: BlockKind
    blocks: tuple[int, int, int]  # of the levels, the finest first
    embedding_blocks: int  # of the stage from the coarsest level to half its resolution
    rectified: bool  # its levels come out of a ReLU


MIRRORS = {
    "wide_resnet50_2": Mirror("bottleneck", (3, 4, 6), 3, rectified=True),
    "resnet18": Mirror("basic", (2, 2, 2), 2, rectified=True),
}
OTHERS = Mirror("basic", (2, 2, 2), 2, rectified=False)
"""Of backbones whose levels may be negative: inverted residuals end in a linear layer, transformers, too."""


class OneClassEmbedding(nn.Module):
    """Multi-scale feature fusion and one-class embedding, section 3.3.

    Levels at strides 4 and 8 are brought to stride 16 by strided 3x3 convolutions, those of a transformer are
    taken as they are; all three are concatenated and fused by a 1x1 convolution, and a residual stage halves
    the resolution and doubles the channels.
    """

    def __init__(self, channels: tuple[int, ...], kind: BlockKind, blocks: int, pyramid: bool = True) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.fine: nn.Module = nn.Identity()
        self.middle: nn.Module = nn.Identity()
        joined = sum(channels)
        if pyramid:
            self.fine = nn.Sequential(
                conv_bn(fine, middle, resampling="down"), conv_bn(middle, coarse, resampling="down")
            )
            self.middle = conv_bn(middle, coarse, resampling="down")
            joined = 3 * coarse
        self.fuse = conv_bn(joined, coarse, kernel=1)
        self.embed = stage(coarse, 2 * coarse, kind, blocks, "down", rectified=True)

    def forward(self, levels: list[Tensor]) -> Tensor:  # [B,C_l,H_l,W_l] -> [B,2*C_3,H_3/2,W_3/2]
        fused: Tensor = self.fuse(torch.cat([self.fine(levels[0]), self.middle(levels[1]), levels[2]], 1))
        embedding: Tensor = self.embed(fused)
        return embedding


class ReverseDistillation(nn.Module):
    """Embedding and decoder: the teacher's levels in, the student's out, of the same shapes.

    The decoder's stages are the backbone's in reverse order, each doubling the resolution at its beginning
    where the level before it was coarser (``pyramid``; of a transformer's only the first).
    """

    def __init__(self, channels: tuple[int, ...], mirror: Mirror, pyramid: bool = True) -> None:
        super().__init__()
        self.embedding = OneClassEmbedding(channels, mirror.kind, mirror.embedding_blocks, pyramid)
        widths = (2 * channels[2], *reversed(channels))
        changes: tuple[Resampling, ...] = ("up", "up", "up") if pyramid else ("up", "none", "none")
        parts = zip(widths, widths[1:], reversed(mirror.blocks), changes, strict=False)
        self.stages = nn.ModuleList(
            stage(wide, narrow, mirror.kind, blocks, change, mirror.rectified)
            for wide, narrow, blocks, change in parts
        )
        convert_conv2d_weight_memory_format(self, torch.channels_last)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:  # three [B,C_l,H_l,W_l], finest first
        x = self.embedding([level.contiguous(memory_format=torch.channels_last) for level in levels])
        restored = []
        for decode, level in zip(self.stages, reversed(levels), strict=True):
            x = cut(decode(x), level.shape[2:])
            restored.append(x)
        return restored[::-1]


def stage(
    inputs: int, outputs: int, kind: BlockKind, blocks: int, resampling: Resampling, rectified: bool
) -> nn.Sequential:
    """``blocks`` residual blocks, the first of which changes resolution and channels; ``rectified``: the last
    one ends in a ReLU.
    """
    sizes = [inputs] + [outputs] * (blocks - 1)
    return nn.Sequential(
        *(
            ResampledBlock(
                size,
                outputs,
                kind,
                resampling if index == 0 else "none",
                rectified or index + 1 < blocks,
            )
            for index, size in enumerate(sizes)
        )
    )
