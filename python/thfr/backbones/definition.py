"""What there is to say about a backbone: data only, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from thfr.errors import InputError
from thfr.io.sizes import fitted

STRIDES = (4, 8, 16)
"""Of the levels of a pyramid, in pixels."""


@dataclass(frozen=True)
class BackboneSpec:
    """What distinguishes one backbone from another.

    A *pyramid* (a convolutional network, or a transformer built like one) has levels at strides 4, 8 and 16.
    A *transformer* has one stride, that of its patches; its levels are the outputs of three of its blocks.
    A *joined* one has the levels of its members, three of each.
    """

    architecture: str  # timm's model name
    pretrained: str  # timm's name of the pretrained weights
    levels: tuple[int, int, int]  # timm's feature indices; of a transformer blocks, counted from 0
    left_over: tuple[str, ...]  # parts of a full checkpoint that an extractor does not have
    licence: str  # of the weights
    kind: Literal["pyramid", "transformer", "joined"] = "pyramid"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of RGB in 0..1
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    strides: tuple[int, ...] = STRIDES  # pixels between the locations of each level
    multiple: int = 32  # what both edges of an input must be multiples of
    size: int = 256  # default edge of the input
    bottleneck_channels: int = 512  # default width of the bottleneck behind it
    stages: int | None = None  # leading stages of ``blocks`` to keep, where timm would run those behind, too
    packaged: str | None = None  # the package that carries weights
    blocks: int = 0  # how many a transformer has
    options: tuple[str, ...] = ()  # what is set when timm creates it
    members: tuple[BackboneSpec, ...] = ()  # of a joined backbone

    def grids(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Height and width of each level for an input of ``size``, (height, width), the finest first."""
        if self.members:
            sizes = self.member_sizes(size)
            return [grid for one, seen in zip(self.members, sizes, strict=True) for grid in one.grids(seen)]
        return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in self.strides]

    def nearest_sizes(self, edge: int) -> list[int]:
        """The edges at or around ``edge`` that an input may have."""
        below = edge // self.multiple * self.multiple
        return [size for size in dict.fromkeys((below, -(-edge // self.multiple) * self.multiple)) if size]

    def member_sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """(height, width) of what each member sees of an input of ``size``: the first all of it, another as
        many pixels as its own default has, at the same aspect. So more pixels for small defects cost no more
        of a transformer behind, which is there for the arrangement.
        """
        aspect = size[1] / size[0]
        return [size] + [fitted(aspect, other.size**2, other.multiple) for other in self.members[1:]]

    def with_depths(self, depths: Sequence[int], name: str) -> BackboneSpec:
        """This transformer with other blocks as its levels.

        Raises:
            InputError: a pyramid, or depths that are not three of its blocks in ascending order.
        """
        if self.kind != "transformer":
            raise InputError(f"depths: only a transformer has blocks to choose, {name} is none; got {depths}")
        if len(depths) != 3 or not 0 <= depths[0] < depths[1] < depths[2] < self.blocks:
            expected = f"three ascending blocks of {name}, 0 to {self.blocks - 1}"
            raise InputError(f"depths: expected {expected}, got {list(depths)}")
        first, second, third = depths
        return replace(self, levels=(first, second, third), left_over=behind(third, self.blocks))


def joined(members: Sequence[BackboneSpec]) -> BackboneSpec:
    """Several backbones as one, whose inputs are those of the first; the members normalise them."""
    first = members[0]
    return replace(
        first,
        architecture="+".join(member.architecture for member in members),
        pretrained="+".join(member.pretrained for member in members),
        licence=", ".join(dict.fromkeys(member.licence for member in members)),
        kind="joined",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        strides=tuple(stride for member in members for stride in member.strides),
        packaged=None,
        members=tuple(members),
    )


def transformer(
    architecture: str,
    tag: str,
    blocks: int,
    patch: int,
    licence: str,
    options: tuple[str, ...] = ("dynamic_img_size",),
) -> BackboneSpec:
    """One of so many blocks, which sees patches of ``patch`` pixels. Its levels are the blocks after which it
    has done a quarter, half and three quarters of its work; ``tag``: of its weights, empty for none.
    """
    first, second, third = (max(blocks * part // 4 - 1, part - 1) for part in (1, 2, 3))
    return BackboneSpec(
        architecture=architecture,
        pretrained=f"{architecture}.{tag}" if tag else architecture,
        levels=(first, second, third),
        left_over=behind(third, blocks),
        licence=licence,
        kind="transformer",
        strides=(patch, patch, patch),
        multiple=patch,
        size=256 // patch * patch,
        blocks=blocks,
        options=options,
    )


def behind(last: int, blocks: int) -> tuple[str, ...]:
    """The parts of a transformer's checkpoint behind block ``last``."""
    later = tuple(f"blocks.{index}." for index in range(last + 1, blocks))
    return (*later, "norm.", "fc_norm.", "head.", "mask_token")
