from .errors import InputError as InputError
from .inference.estimator import THFR as THFR
from .inference.estimator import Prediction as Prediction
