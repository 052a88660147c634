"""Settings of the template method."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from thfr.config import ModelConfig, RunConfig, TrainingConfig


class TemplateModelConfig(ModelConfig):
    """The two questions: is it as in a good image at the same place, and is it anywhere in good images."""

    joins_backbones: ClassVar[bool] = True

    parts: Literal["both", "arrangement", "material"] = "both"
    """arrangement: templates at the same place; material: patches from anywhere; both: each weighed by what
    it says about good images that it does not hold.
    """
    template_count: int = Field(default=3, ge=1)
    """Nearest good images that are compared with (all, where there are fewer)."""
    reach: int = Field(default=1, ge=0, le=4)
    """Cells, in each direction, that a template's place may lie away from the image's."""
    consensus: int = Field(default=2, ge=0)
    """Template and place are chosen by the mean difference over a square of so many cells of the coarsest
    level around each location, so that a defect cannot choose what excuses it; 0: by the location alone.
    """
    key_cells: int | None = Field(default=None, ge=1)
    """Cells a side of the retrieval key, the coarse level averaged; None: all. 1 forgets the layout."""
    place_weight: float = Field(default=0.2, ge=0)
    """Of a tile's place in the key, beside its features, where images are seen in tiles."""
    memory: int = Field(default=8192, ge=1)
    """Patches kept of each backbone, a coreset of those of all images."""

    counts: bool = False
    """Multiply an image's score by the root of how unusual the numbers of its parts are
    (:class:`thfr.methods.template.counts.PartCounts`); of whole images only. The score then is not the map's
    maximum, so the threshold needs good images that were not learnt from.
    """

    @property
    def uses_templates(self) -> bool:
        return self.parts != "material"


class TemplateTrainingConfig(TrainingConfig):
    """How the memory is chosen and the parts are weighed."""

    candidates: int = Field(default=65536, ge=1)
    """Patches, drawn at random, that the coreset chooses from."""
    projection: int = Field(default=64, ge=1)
    """Dimensions of the random projection in which the coreset compares patches."""
    copies: int = Field(default=4, ge=1)
    """Slightly moved, turned and lit copies of each image that tell, where there are fewer than eight
    images, what a good image may look like.
    """


class TemplateConfig(RunConfig):
    """A run of the template method."""

    title: ClassVar[str] = "Template"
    paper: ClassVar[str] = (
        "none: features of Guo et al. (ICCV 2023) and the memory of Roth et al. (CVPR 2022), without training"
    )

    least_images: ClassVar[int] = 1

    method: Literal["template"] = "template"
    model: TemplateModelConfig = TemplateModelConfig()
    training: TemplateTrainingConfig = TemplateTrainingConfig()

    @property
    def leaves_out(self) -> bool:
        return self.whole_images and not self.model.counts

    @property
    def whole_images(self) -> bool:
        """Whether all of an image counts, and is seen at once."""
        model = self.model
        return model.tile_count == 1 and model.fit == "stretch" and model.region is None
