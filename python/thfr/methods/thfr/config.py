"""The configuration of a THFR run."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from thfr.config import ModelConfig, OptimisationConfig, RunConfig
from thfr.io.sizes import in_words

Variant = Literal["thfr", "gl", "gbn", "lbn"]
VARIANTS: tuple[Variant, ...] = ("thfr", "gl", "gbn", "lbn")


class THFRModelConfig(ModelConfig):
    """The network and its templates."""

    variant: Variant = "thfr"
    """gbn: global bottleneck; lbn: local bottlenecks; gl: both; thfr: both with template-guided
    compensation.
    """
    decoder: Literal["full", "light"] = "full"
    """light: a fifth of the multiplications, for processors: less than half of the time to train, and an
    image costs about 1.6 times its extractor (docs/results/export.md).
    """
    parts: Literal["restoration", "all"] = "restoration"
    """all: what the template method asks is asked, too, of the same bank: safer on a product that lies
    anywhere, at some tens of milliseconds an image (docs/choosing.md).
    """
    bottleneck_channels: int | None = Field(default=None, ge=16, multiple_of=4)
    """Width of the global bottleneck at stride 32; None: 2048 for wide_resnet50_2, else 512."""
    global_blocks: int = Field(default=3, ge=1)
    """Residual blocks of the global bottleneck at its stride."""
    global_stride: Literal[32, 64, 128, 256] = 32
    """Pixels a cell of the global bottleneck: 8, 4, 2 or 1 cells a side at 256 x 256. Behind a transformer
    two, four, ... of its patches.
    """
    local_reduction: int | None = Field(default=None, ge=1)
    """The local bottleneck keeps 1/this of a level's channels; None: 16 of a full decoder, 32 of a light
    one.
    """
    compensation_levels: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
    """Levels at which the template compensates, 1 the finest (at stride 4, or a transformer's earliest block)
    to 3; without any, thfr is gl.
    """
    template_residual: bool = True
    """Where the template compensates, the output is its features at the matching locations plus what the
    decoder adds to them; False: what the decoder makes of them.
    """
    attention_heads: int = Field(default=1, ge=1)
    """Of a full decoder; a light one has one."""
    attention_pool: Literal[1, 2, 4] = 2
    """Edge of the squares over which the template's features at stride 4 are averaged to make keys; of a full
    decoder.
    """
    attention_temperature: float = Field(default=30.0, gt=0)
    """Factor on the cosine similarity of query and key."""
    prior_width: float = Field(default=1.0, gt=0)
    """Standard deviation of the positional prior, in cells of stride 16."""
    key_cells: int | None = Field(default=None, ge=1)
    """Cells a side of the retrieval key, the coarse level averaged; None: all. 1 forgets the layout."""
    place_weight: float = Field(default=0.2, ge=0)
    """Of images seen in tiles: the cosine similarity by which a template of another place must be the better
    one; 0: place does not count, 2: never from another place.
    """
    template_count: int = Field(default=3, ge=1)
    """Templates an image is restored with (fewer if the bank holds fewer): the attention chooses among the
    locations of all of them. Training takes the nearest one, which costs half as much and is as good.
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
        if self.spec.kind == "pyramid" and any(edge % self.global_stride for edge in self.size):
            raise ValueError(
                f"global_stride: expected a divisor of size, {in_words(self.size)}, got {self.global_stride}"
            )
        return self

    @model_validator(mode="after")
    def _of_its_decoder(self) -> THFRModelConfig:
        if self.decoder == "light":
            for name in ("attention_heads", "attention_pool"):
                value, default = getattr(self, name), type(self).model_fields[name].default
                if value != default:
                    raise ValueError(f"{name}: expected {default}, since decoder is light, got {value}")
        return self

    @model_validator(mode="after")
    def _has_references(self) -> THFRModelConfig:
        if self.parts == "all" and not self.uses_templates:
            raise ValueError(f"parts: expected restoration, since {self.variant} keeps no templates, got all")
        return self

    @property
    def reduction(self) -> int:
        """``local_reduction``, or the decoder's default."""
        return self.local_reduction or (32 if self.decoder == "light" else 16)

    @property
    def bottleneck_width(self) -> int:
        """``bottleneck_channels``, or the backbone's default."""
        return self.bottleneck_channels or self.spec.bottleneck_channels

    @property
    def uses_templates(self) -> bool:
        return self.variant == "thfr" and bool(self.compensation_levels)


class THFRTrainingConfig(OptimisationConfig):
    """How the restoration network is fitted."""

    epochs: int = Field(default=7, ge=1)
    min_steps: int = Field(default=240, ge=0)
    learning_rate: float = Field(default=2e-3, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    loss: Literal["location", "flattened"] = "location"
    """See :func:`thfr.methods.common.losses.restoration_losses`."""
    corruption: bool = True
    """Paste feature rectangles of other training images into the network's input (never into target or
    template).
    """
    corruption_cells: int = Field(default=12, ge=2)
    """Largest edge of such a rectangle, in cells of stride 16."""
    augmentation: int = Field(default=0, ge=0)
    """Copies of each training image, slightly moved, turned and lit; templates are the originals only. They
    helped with 43 images and cost accuracy with 335 (docs/results/accuracy.md).
    """


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
