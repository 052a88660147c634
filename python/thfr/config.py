"""What a run is made of: typed, frozen, written to the run folder as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, cast

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from thfr.backbones import BACKBONES, backbone_spec
from thfr.errors import InputError

Variant = Literal["thfr", "gl", "gbn", "lbn"]
VARIANTS: tuple[Variant, ...] = ("thfr", "gl", "gbn", "lbn")
_Config = TypeVar("_Config", bound="_Base")


class _Base(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_yaml(self) -> str:
        """The configuration as YAML text."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    @classmethod
    def from_yaml(cls: type[_Config], text: str, source: str = "config") -> _Config:
        """Read YAML text; InputError names the fields that are wrong."""
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"config: {source} is not YAML: {error}") from error
        if not isinstance(values, dict):
            raise InputError(f"config: {source} must hold a mapping, got {type(values).__name__}")
        return cls.from_values(values, source)

    @classmethod
    def from_values(cls: type[_Config], values: dict[str, Any], source: str = "config") -> _Config:
        """Build from plain values; InputError instead of pydantic's own error."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise InputError(f"config: {source}: {problems}") from error


class ModelConfig(_Base):
    """What every method has: a frozen backbone and an input size."""

    backbone: str = "wide_resnet50_2"
    pretrained: bool = True
    """False: random backbone weights, for tests only."""
    size: int = Field(default=256, ge=64, le=2048, multiple_of=32)
    """Edge of the square that images are resized to, in pixels."""

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, value: str) -> str:
        if value not in BACKBONES:
            raise ValueError(f"expected one of {', '.join(sorted(BACKBONES))}, got {value!r}")
        return value

    @property
    def uses_templates(self) -> bool:
        """Whether an image is compared with single good images, which a control can shuffle."""
        return False


class THFRModelConfig(ModelConfig):
    """The network and its templates."""

    variant: Variant = "thfr"
    """gbn: global bottleneck; lbn: local bottlenecks; gl: both; thfr: both with template-guided
    compensation.
    """
    bottleneck_channels: int | None = Field(default=None, ge=16, multiple_of=4)
    """Width of the global bottleneck at stride 32; None: 2048 for wide_resnet50_2, else 512."""
    global_blocks: int = Field(default=3, ge=1)
    """Residual blocks of the global bottleneck at its stride."""
    global_stride: Literal[32, 64, 128, 256] = 32
    """Pixels a cell of the global bottleneck: 8, 4, 2 or 1 cells a side at 256 x 256."""
    local_reduction: int = Field(default=16, ge=1)
    """The local bottleneck keeps 1/this of a level's channels."""
    compensation_levels: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
    """Levels at which the template compensates, 1 at stride 4 to 3 at stride 16; without any, thfr is gl."""
    template_residual: bool = True
    """Where the template compensates, the output is its features at the matching places plus what the decoder
    adds to them; False: what the decoder makes of them.
    """
    attention_heads: int = Field(default=1, ge=1)
    attention_pool: Literal[1, 2, 4] = 2
    """Edge of the squares over which the template's features at stride 4 are averaged to make keys."""
    attention_temperature: float = Field(default=30.0, gt=0)
    """Factor on the cosine similarity of query and key."""
    prior_width: float = Field(default=1.0, gt=0)
    """Standard deviation of the positional prior, in cells of stride 16."""
    key_cells: int | None = Field(default=None, ge=1)
    """Cells a side of the retrieval key, the coarse level averaged; None: all. 1 forgets the layout."""
    template_count: int = Field(default=3, ge=1)
    """Templates an image is restored with (fewer if the bank holds fewer): the attention chooses among the
    places of all of them. Training takes the nearest one, which costs half as much and is as good.
    """
    bank_ratio: float = Field(default=1.0, gt=0, le=1)
    """Share of the training images kept as templates."""
    bank_method: Literal["random", "coreset"] = "coreset"

    @field_validator("compensation_levels")
    @classmethod
    def _ordered_levels(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"expected each level once, got {value}")
        return tuple(sorted(value))

    @model_validator(mode="after")
    def _divisible(self) -> THFRModelConfig:
        if self.size % self.global_stride:
            raise ValueError(
                f"global_stride: expected a divisor of size, {self.size}, got {self.global_stride}"
            )
        return self

    @property
    def bottleneck_width(self) -> int:
        """``bottleneck_channels``, or the backbone's default."""
        return self.bottleneck_channels or backbone_spec(self.backbone).bottleneck_channels

    @property
    def uses_templates(self) -> bool:
        return self.variant == "thfr" and bool(self.compensation_levels)


class TrainingConfig(_Base):
    """What the fitting of every method has."""

    holdout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training images that is not learnt from but sets the threshold, beside a validation split
    where there is one.
    """
    seed: int = Field(default=0, ge=0)

    def steps(self, images: int) -> int:
        """Optimisation steps for a training set of ``images`` images; 0 for a method without any."""
        return 0


class OptimisationConfig(TrainingConfig):
    """What the fitting of every method has that is trained by gradient descent."""

    epochs: int = Field(default=100, ge=1)
    min_steps: int = Field(default=0, ge=0)
    """Small sets get at least so many steps, whatever ``epochs`` says; 0 takes ``epochs`` at its word."""
    max_steps: int | None = Field(default=None, ge=1)
    """No more steps than this, whatever ``epochs`` and ``min_steps`` say; None: no limit."""
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of training; bf16 is automatic mixed precision. auto: bf16 where the machine has matrix units for it,
    else fp32.
    """

    def steps(self, images: int) -> int:
        per_epoch = -(-images // self.batch_size)
        wanted = max(self.epochs * per_epoch, self.min_steps)
        return wanted if self.max_steps is None else min(wanted, self.max_steps)


class THFRTrainingConfig(OptimisationConfig):
    """How the restoration network is fitted."""

    epochs: int = Field(default=7, ge=1)
    min_steps: int = Field(default=240, ge=0)
    learning_rate: float = Field(default=2e-3, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    loss: Literal["location", "flattened"] = "location"
    """location: mean cosine distance of the places of a level; flattened: cosine distance of whole levels."""
    corruption: bool = True
    """Paste feature rectangles of other training images into the network's input (never into target or
    template).
    """
    corruption_cells: int = Field(default=12, ge=2)
    """Largest edge of such a rectangle, in cells of stride 16."""
    augmentation: int = Field(default=0, ge=0)
    """Copies of each training image, slightly moved, turned and lit; templates are the originals only. They
    helped with 43 images and cost accuracy with 335 (docs/accuracy.md).
    """


class RunConfig(_Base):
    """A whole run: what the run folder's ``config.yaml`` holds. Every method has a subclass."""

    title: ClassVar[str]
    """The method's name for people."""
    paper: ClassVar[str]
    uses_backbone: ClassVar[bool] = True
    """False: no weights are loaded or stored, and ``model.backbone`` means nothing."""

    method: str
    model: SerializeAsAny[ModelConfig]
    training: SerializeAsAny[TrainingConfig]
    weights_digest: str | None = None
    """SHA-256 of the backbone weights in use; filled in by training."""
    dataset: dict[str, str | int] = Field(default_factory=dict)
    """What was trained on: name, category, number of images, SHA-256 of their pixels; filled in by
    training.
    """

    @property
    def label(self) -> str:
        """The method, and its variant where it has several, for tables and captions."""
        return self.title

    @property
    def full_label(self) -> str:
        """The method and the backbone that it uses, if any."""
        return f"{self.label}, {self.model.backbone}" if self.uses_backbone else self.label

    def summary(self) -> dict[str, Any]:
        """What matters most, for JSON."""
        model = self.model
        return {
            "method": self.method,
            "backbone": model.backbone,
            "size": model.size,
            "seed": self.training.seed,
        }

    @classmethod
    def from_values(cls: type[_Config], values: dict[str, Any], source: str = "config") -> _Config:
        """Build the configuration of the method that ``values`` name (THFR if none); InputError instead of
        pydantic's own error.
        """
        if cls is not RunConfig:
            return super().from_values(values, source)
        from thfr.methods.registry import config_class  # its methods' configurations are subclasses of this

        return cast(_Config, config_class(values.get("method", "thfr"), source).from_values(values, source))

    def differences(self, other: RunConfig) -> list[str]:
        """Dotted names of the fields in which two runs differ, with both values."""
        mine, theirs = _flat(self.model_dump(mode="json")), _flat(other.model_dump(mode="json"))
        return [
            f"{name} ({mine.get(name)!r} here, {theirs.get(name)!r} there)"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]

    @classmethod
    def read(cls, path: Path) -> RunConfig:
        """Read a run folder's ``config.yaml``."""
        if not path.is_file():
            raise InputError(f"config: no such file: {path} (is this a run folder of thfr train?)")
        return cls.from_yaml(path.read_text(encoding="utf-8"), str(path))


class THFRConfig(RunConfig):
    """A run of THFR."""

    title: ClassVar[str] = "THFR"
    paper: ClassVar[str] = (
        "Guo et al., Template-guided Hierarchical Feature Restoration for Anomaly Detection, ICCV 2023"
    )

    method: Literal["thfr"] = "thfr"
    model: THFRModelConfig = THFRModelConfig()
    training: THFRTrainingConfig = THFRTrainingConfig()

    @property
    def label(self) -> str:
        return {"thfr": "THFR", "gl": "G-L", "gbn": "GBN", "lbn": "LBN"}[self.model.variant]

    def summary(self) -> dict[str, Any]:
        return {**super().summary(), "variant": self.model.variant}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
