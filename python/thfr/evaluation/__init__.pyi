from .maps import open_maps as open_maps
from .protocols import evaluate_maps as evaluate_maps
from .run import evaluate_detector as evaluate_detector
from .run import evaluate_run as evaluate_run
from .synthetic import evaluate_synthetic as evaluate_synthetic
from .table import metrics_table as metrics_table
