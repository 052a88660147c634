"""What PyTorch 2.6 cannot do."""

from __future__ import annotations

import pytest
import torch

exporting = pytest.mark.skipif(torch.__version__ < "2.7", reason="PyTorch 2.6 cannot write exported graphs")
