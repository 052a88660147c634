"""MPDD, metal parts (Jezek et al., ICUMT 2021): the layout and the protocol of MVTec AD.

Categories: bracket_black, bracket_brown, bracket_white, connector, metal_plate, tubes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thfr.data.formats.mvtec_ad import MVTecAD, open_as
from thfr.data.registry import register_dataset


@register_dataset("mpdd")
@dataclass(frozen=True)
class MPDD(MVTecAD):
    """As :class:`~thfr.data.MVTecAD`."""

    @classmethod
    def open(cls, root: Path, category: str) -> MPDD:
        return open_as(cls, "mpdd", root, category)
