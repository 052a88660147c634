"""Pictures of results: heat-map overlays, a report in one HTML file, a contact sheet in one PNG."""

from thfr.predictions.scale import ColourScale as ColourScale
from thfr.visualization.gallery import Entry as Entry
from thfr.visualization.gallery import Report as Report
from thfr.visualization.inspection import inspect as inspect
from thfr.visualization.overlay import outlined as outlined
from thfr.visualization.overlay import overlay as overlay
from thfr.visualization.report import write_report as write_report
from thfr.visualization.sheet import write_contact_sheet as write_contact_sheet
