"""DRAEM: Zavrtanik, Kristan, Skočaj, "DRAEM - A discriminatively trained reconstruction embedding for surface
anomaly detection", ICCV 2021.

An auto-encoder learns to restore good images from ones with simulated anomalies, and a U-Net to tell, from
image and restoration, where the anomaly is. It learns from pixels: **the backbone is not used**, though the
configuration names one, like that of every method.

Where this deviates from the paper:

- Textures come from a generator (:mod:`thfr.methods.draem.textures`), there being no photographs of textures
  at hand; ``textures`` names a folder of them for those who have one (the paper's are DTD).
- The networks can work at a smaller size than that of the map (``network_size``), which a CPU needs.
- The map is the smoothed one, whose maximum is the score; the paper measures localisation before smoothing.
- The mean filter averages over what lies within the image, so that anomalies at its edge count in full.
- The learning rate drops at the same shares of the steps as in the paper, after 400 and 600 of 700 epochs.
"""

from thfr.methods.draem.config import DRAEMConfig, DRAEMModelConfig, DRAEMTrainingConfig
from thfr.methods.draem.detector import DRAEMDetector

__all__ = ["DRAEMConfig", "DRAEMDetector", "DRAEMModelConfig", "DRAEMTrainingConfig"]
