"""Configurations: typed, frozen, written to the run folder as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from thfr.backbones.specs import BackboneSpec, backbone_spec
from thfr.errors import InputError, located
from thfr.io.sizes import canvas, in_words, parse_grid, parse_size, plain

_Config = TypeVar("_Config", bound="_Base")
_SMALLEST, _LARGEST, _MOST_TILES = 64, 2048, 1024
InputSize = Annotated[tuple[int, int], BeforeValidator(parse_size), PlainSerializer(plain)]
"""(height, width); given and written as one number for a square, else as ``[height, width]``; also taken is
``"256x640"``, HEIGHTxWIDTH.
"""
Grid = Annotated[tuple[int, int], BeforeValidator(parse_grid), PlainSerializer(list)]
"""(rows, columns); also taken is ``"3x2"``."""


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """The mapping that a YAML text holds.

    Raises:
        InputError: it holds anything else; names ``source``.
    """
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"config: {source} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"config: {source} must hold a mapping, got {type(values).__name__}")
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: it cannot be read, or holds anything else; names the file.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"config: {path} cannot be read: {error}") from error


class _Base(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_yaml(self) -> str:
        """The configuration as YAML text."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    @classmethod
    def from_values(cls: type[_Config], values: dict[str, Any], source: str = "config") -> _Config:
        """Build from plain values.

        Raises:
            InputError: names ``source`` and the fields that are wrong.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(f"config: {source}: {located(error)}") from error


class ModelConfig(_Base):
    """Settings of the model that every method has: a frozen backbone and an input size."""

    follows_backbone: ClassVar[bool] = True
    """False: the input size need not suit the backbone, because the method does without one."""

    joins_backbones: ClassVar[bool] = False
    """Whether the backbone may be several, joined by ``+``."""

    backbone: str = "wide_resnet50_2"
    pretrained: bool = True
    """False: random backbone weights, for tests only."""
    depths: tuple[int, int, int] | None = None
    """Blocks of a vision transformer, counted from 0, whose outputs are the three levels; None: its defaults.
    Other backbones have none to choose.
    """
    size: InputSize = Field(default=None, validate_default=True)
    """(height, width) that images, or their tiles, are resized to, in pixels: multiples of what the backbone
    asks for; not given: a square of the backbone's default edge.
    """
    fit: Literal["stretch", "letterbox"] = "stretch"
    """How an image of another aspect comes into that size: stretched, or as it is with bars around it."""
    tiles: Grid = (1, 1)
    """(rows, columns) of tiles that an image is seen in, each of ``size``; one model for all of them."""
    overlap: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of a tile's edge that it has in common with the next one; there their maps are blended."""
    region: str | None = None
    """SHA-256 of the region of interest; filled in by training. The region itself is in ``inputs.json``."""

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, value: str) -> str:
        if backbone_spec(value).members and not cls.joins_backbones:
            raise ValueError(f"expected one backbone: only template joins several, got {value}")
        return value

    @field_validator("depths")
    @classmethod
    def _has_depths(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and "backbone" in info.data:
            backbone_spec(info.data["backbone"], value)
        return value

    @field_validator("size", mode="before")
    @classmethod
    def _default_size(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None:
            return value
        name = info.data.get("backbone")
        return 256 if name is None else backbone_spec(name).size  # None: named as wrong already

    @field_validator("size")
    @classmethod
    def _usable_size(cls, value: tuple[int, int], info: ValidationInfo) -> tuple[int, int]:
        if not _SMALLEST <= min(value) <= max(value) <= _LARGEST:
            raise ValueError(f"expected edges from {_SMALLEST} to {_LARGEST}, got {in_words(value)}")
        name = info.data.get("backbone")
        if cls.follows_backbone and name is not None:
            spec = backbone_spec(name)
            for edge in value:
                if edge % spec.multiple:
                    near = " or ".join(map(str, spec.nearest_sizes(edge)))
                    wanted = f"a multiple of {spec.multiple} for {name}, the nearest being {near}"
                    raise ValueError(f"expected {wanted}, got {edge}")
        return value

    @property
    def spec(self) -> BackboneSpec:
        """The data of the backbone."""
        return backbone_spec(self.backbone, self.depths)

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Height and width of each of the backbone's levels at this input size, the finest first."""
        return self.spec.grids(self.size)

    @field_validator("tiles")
    @classmethod
    def _usable_tiles(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] * value[1] > _MOST_TILES:
            raise ValueError(f"expected at most {_MOST_TILES} tiles, got {value[0]}x{value[1]}")
        return value

    @property
    def canvas(self) -> tuple[int, int]:
        """(height, width) of a whole image, in pixels at which the network sees it: what its tiles cover."""
        return canvas(self.size, self.tiles, self.overlap)

    @property
    def tile_count(self) -> int:
        """Tiles of an image, 1 for one that is seen as a whole."""
        return self.tiles[0] * self.tiles[1]

    @property
    def size_in_words(self) -> str:
        """Height and width for people: ``256 x 256 pixels``, with tiles, letterbox and region of interest."""
        seen = f"{self.size[0]} x {self.size[1]} pixels"
        if self.tile_count > 1:
            seen = f"{self.tiles[0]} x {self.tiles[1]} tiles of {seen}"
        if self.fit == "letterbox":
            seen += ", letterboxed"
        return seen if self.region is None else f"{seen}, within a region of interest"

    @property
    def uses_templates(self) -> bool:
        """Whether an image is compared with single good images, which a control can shuffle."""
        return False


class TrainingConfig(_Base):
    """Settings of training that every method has."""

    holdout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training images that is not learnt from but sets the threshold, beside a validation split
    where there is one.
    """
    shots: int | None = Field(default=None, ge=1)
    """Learn from this many of the other images only, drawn by ``seed``, those of fewer among those of more:
    for few-shot studies. None: from all of them.
    """
    seed: int = Field(default=0, ge=0)

    def learnt(self, images: int) -> int:
        """How many of ``images`` training images are learnt from."""
        rest = images - (max(round(self.holdout * images), 1) if self.holdout else 0)
        return rest if self.shots is None else min(self.shots, rest)

    def steps(self, images: int) -> int:
        """Optimisation steps for a training set of ``images`` images; 0 for a method without any."""
        return 0


class OptimisationConfig(TrainingConfig):
    """Settings of methods that are trained by gradient descent."""

    epochs: int = Field(default=100, ge=1)
    min_steps: int = Field(default=0, ge=0)
    """Least number of steps, whatever ``epochs`` says: for small sets; 0: no limit."""
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


class RunConfig(_Base):
    """A whole run: what the run folder's ``config.yaml`` holds. Every method has a subclass."""

    title: ClassVar[str]
    """The method's name for people."""
    paper: ClassVar[str]
    uses_backbone: ClassVar[bool] = True
    """False: no weights are loaded or stored, and ``model.backbone`` means nothing."""
    least_images: ClassVar[int] = 2
    """Good images that the method needs at least."""

    method: str
    model: SerializeAsAny[ModelConfig]
    training: SerializeAsAny[TrainingConfig]
    weights_digest: str | None = None
    """SHA-256 of the backbone weights in use; filled in by training."""
    dataset: dict[str, str | int | list[str]] = Field(default_factory=dict)
    """The training data: name, category (of several also ``categories``), number of images, SHA-256 of their
    pixels; filled in by training.
    """

    @property
    def label(self) -> str:
        """The method, and its variant where it has several, for tables and captions."""
        return self.title

    @property
    def leaves_out(self) -> bool:
        """Whether a detector scores training images as if it had not learnt from them
        (:meth:`thfr.methods.Detector.good_maps`), the score being the largest value of the map: they can then
        set the threshold, and no image needs to be held out for it.
        """
        return False

    @property
    def full_label(self) -> str:
        """The method and the backbone that it uses, if any."""
        return f"{self.label}, {self.model.backbone}" if self.uses_backbone else self.label

    def summary(self) -> dict[str, Any]:
        """What matters most, for JSON."""
        model = self.model
        odd: dict[str, str] = {"fit": model.fit} if model.fit != "stretch" else {}
        if model.tile_count > 1:
            odd |= {"tiles": f"{model.tiles[0]}x{model.tiles[1]}", "overlap": str(model.overlap)}
        return {
            "method": self.method,
            "backbone": model.backbone,
            "size": in_words(model.size),
            **odd,
            "seed": self.training.seed,
        }

    def differences(self, other: RunConfig) -> list[str]:
        """Dotted names of the fields in which two runs differ, with both values."""
        mine, theirs = _flat(self.model_dump(mode="json")), _flat(other.model_dump(mode="json"))
        return [
            f"{name} ({mine.get(name)!r} here, {theirs.get(name)!r} there)"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
