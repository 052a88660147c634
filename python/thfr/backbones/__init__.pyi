from .factory import FeatureExtractor as FeatureExtractor
from .factory import create_backbone as create_backbone
from .specs import BACKBONES as BACKBONES
from .specs import BackboneSpec as BackboneSpec
from .specs import backbone_spec as backbone_spec
from .weights import weights_digest as weights_digest
