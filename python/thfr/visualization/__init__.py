"""Pictures of results: heat-map overlays, a report in one HTML file, a contact sheet in one PNG."""

from __future__ import annotations

from thfr.predictions.scale import ColourScale
from thfr.visualization.gallery import Entry, Report
from thfr.visualization.inspection import inspect
from thfr.visualization.overlay import outlined, overlay
from thfr.visualization.report import write_report
from thfr.visualization.sheet import write_contact_sheet

__all__ = [
    "ColourScale",
    "Entry",
    "Report",
    "inspect",
    "outlined",
    "overlay",
    "write_contact_sheet",
    "write_report",
]
