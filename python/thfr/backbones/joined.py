"""Several backbones as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from thfr.backbones.definition import BackboneSpec


class Joined(nn.Module):
    """The levels of several feature extractors, one after the other. Each sees the image at its own size
    (:meth:`thfr.backbones.definition.BackboneSpec.member_sizes`), resized bilinearly, and normalises it.
    """

    def __init__(self, members: Sequence[Any], spec: BackboneSpec) -> None:
        super().__init__()
        self.members, self.spec = nn.ModuleList(members), spec
        self._channels = [width for member in members for width in member.channels]

    def channels(self) -> list[int]:
        """Of each level."""
        return self._channels

    def reduction(self) -> list[int]:
        """The stride of each level, in pixels of what its member sees."""
        return list(self.spec.strides)

    @property
    def feature_info(self) -> Joined:
        """What timm's pyramids keep under this name."""
        return self

    def forward(
        self,
        images: Tensor,  # [B,3,H,W] RGB in 0..1
    ) -> list[Tensor]:
        levels: list[Tensor] = []
        members: Any = self.members
        given = (images.shape[2], images.shape[3])
        for member, size in zip(members, self.spec.member_sizes(given), strict=True):
            seen = images
            if size != given:
                seen = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
            levels += member(seen)
        return levels

    def fixed(self, size: tuple[int, int]) -> Joined:
        """A copy for inputs of one size, (height, width)."""
        sizes = self.spec.member_sizes(size)
        members: Any = self.members
        return Joined([one.fixed(seen) for one, seen in zip(members, sizes, strict=True)], self.spec)
