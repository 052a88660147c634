"""Pictures of results: heat-map overlays, a report in one HTML file, a contact sheet in one PNG."""

from __future__ import annotations

from thfr.predictions.scale import ColourScale, ScaleBuilder, scale_of
from thfr.visualization.gallery import Entry, Report
from thfr.visualization.overlay import outlined, overlay
from thfr.visualization.report import write_report
from thfr.visualization.sheet import write_contact_sheet

__all__ = [
    "ColourScale",
    "Entry",
    "Report",
    "ScaleBuilder",
    "outlined",
    "overlay",
    "scale_of",
    "write_contact_sheet",
    "write_report",
]
