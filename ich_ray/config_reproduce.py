"""What of a published study is made anew, beside its family of variants."""

from dataclasses import dataclass
from typing import Literal, get_args

from ich_ray.config_checks import require

Contrast = Literal["none", "power", "log", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReproduceConfig:
    """How the tables of Lin & Yuh are made from the experiment of the same settings.

    Its variants give table 1 on `evaluate.test`; the rest stands here.
    """

    validation: tuple[str, ...]
    """Selections with masks that tables 2 and 3 are made on: patients that no model learns from."""

    contrasts: tuple[Contrast, ...] = get_args(Contrast)
    """Rows of table 2: the teacher, trained with each of these augmentations."""

    segmentations: tuple[str, ...] = ()
    """Table 4 beside `evaluate.test`: selections with the same exams and the masks of another
    reading, one selection a reading."""

    report: str = "out/reproduce"
    """Local folder of the tables, and of the reports that they are made of."""

    def __post_init__(self) -> None:
        """Check that each row is another one."""
        require(len(self.validation) > 0, "validation must name at least one selection")
        for name in ("validation", "contrasts", "segmentations"):
            values = getattr(self, name)
            require(len(set(values)) == len(values), f"{name}={list(values)} holds one twice")
