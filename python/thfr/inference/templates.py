"""Which good training images a detector compares new ones with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thfr.errors import InputError
from thfr.methods import Detector


def template_numbers(
    detector: Detector,
    images: Sequence[np.ndarray],  # uint8 [H_i,W_i,3]
) -> list[int]:
    """For each image the number of the training image whose features are its (nearest) template, from 0 in
    training order.

    Raises:
        InputError: the detector's variant has no templates, or an image that :meth:`Detector.prepare`
        rejects.
    """
    if detector.bank is None:
        raise InputError(f"template_numbers: {detector.config.label} has no templates")
    places = detector.bank.nearest(detector.features(detector.prepare(images)))[:, 0]
    return [int(row) for row in detector.bank.rows[places.cpu()]]
