"""8-connected regions of masks on CUDA, by native kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from thfr_ext.core import devices
from thfr_ext.core.tensors import view


class Labels(NamedTuple):
    #: int32 [H,W] each: 1, 2, ... through all images in the order of the regions' first pixels; outside of
    #: regions anything
    images: list[Tensor]
    #: int64 [1]: regions of all images
    found: Tensor


def label_images(masks: Sequence[Tensor]) -> Labels:  # bool [H,W] each, none without a pixel
    """Labels of all images."""
    pixels = sum(m.numel() for m in masks)
    chunks = sum(devices.native.cuda_sweep_chunks(m.numel()) for m in masks)
    links = masks[0].new_empty(pixels, dtype=torch.int64)
    labels = masks[0].new_empty(pixels, dtype=torch.int32)
    sums = masks[0].new_empty(chunks, dtype=torch.int64)
    planes = [view(m.unsqueeze(0)) for m in masks]
    numbers = view(links), view(labels.view(torch.float32))  # int32: the native module knows
    with devices.on_device_of(masks[0]) as stream:
        scratch = masks[0].new_empty(devices.native.cuda_sweep_scratch(chunks, 0))
        devices.native.cuda_find_roots(planes, numbers[0], view(sums), view(scratch), stream)
        devices.native.cuda_number_roots(planes, numbers[0], view(sums), numbers[1], stream)
    images = labels.split([m.numel() for m in masks])
    return Labels([x.view(m.shape) for x, m in zip(images, masks, strict=True)], sums[-1:])


def label_regions(masks: Tensor) -> tuple[Tensor, Tensor]:  # [N,H,W] bool -> [N,H,W] int64, [N] int64
    """See :func:`thfr_ext.label_regions`."""
    if masks.numel() == 0:
        counts = masks.new_zeros(masks.shape[:1], dtype=torch.int64)
        return masks.new_zeros(masks.shape, dtype=torch.int64), counts
    labels = torch.where(masks, torch.stack(label_images(masks.unbind(0)).images).long(), 0)
    last = labels.amax((1, 2)).cummax(0).values  # numbers run through the images
    before = torch.nn.functional.pad(last[:-1], (1, 0))
    return torch.where(masks, labels - before.reshape(-1, 1, 1), 0), last - before
