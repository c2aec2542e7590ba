"""What Lin & Yuh printed: every table, digit by digit, to lay our own figures beside.

Brackets are what the paper calls a 95 % confidence interval and are none: `faults.py`. Models
have the names of our variants, contrasts those of `contrast`.

Source: E. Lin and E. L. Yuh, Semi-supervised learning for generalizable intracranial hemorrhage
detection and segmentation, arXiv:2105.00582v2; Radiology: Artificial Intelligence 6 (2024) e230077.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ich_ray.statistics.comparison import Metric, PixelMetric


class Printed(NamedTuple):
    """A figure as printed, and its brackets where it has any."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """Write it as the paper does.

        >>> str(Printed(0.939, 0.938, 0.940)), str(Printed(0.941))
        ('0.939 [0.938, 0.940]', '0.941')
        """
        value = f"{self.value:.3f}"
        if self.low is None or self.high is None:
            return value
        return f"{value} [{self.low:.3f}, {self.high:.3f}]"


RESAMPLES = 1000
"""Section 2.4: "1000 sets of 481 CT examinations each", "1000 sets of 529 images"."""

REPLICATES = 50
"""Section 2.5: "50 bootstrapped samples on each of the 3 neuroradiologist segmentations"."""

NUM_EXAMS, NUM_MARKED_EXAMS, NUM_SLICES = 481, 23, 529
"""Abstract and section 2.1: CQ500 less 10 exams; those with masks, and their slices."""

TEST_CORPUS = (
    f"on {NUM_EXAMS} exams of CQ500; DSC and pixel AP on {NUM_SLICES} slices of {NUM_MARKED_EXAMS}"
)

TABLE_1: Mapping[str, Mapping[Metric, Printed]] = {
    "baseline": {
        "dsc": Printed(0.809, 0.803, 0.812),
        "pixel_ap": Printed(0.828, 0.817, 0.828),
        "exam_auc": Printed(0.907, 0.906, 0.908),
    },
    "semi_supervised": {
        "dsc": Printed(0.829, 0.825, 0.833),
        "pixel_ap": Printed(0.848, 0.843, 0.853),
        "exam_auc": Printed(0.939, 0.938, 0.940),
    },
    "image_slice_oracle": {
        "dsc": Printed(0.787, 0.783, 0.787),
        "pixel_ap": Printed(0.823, 0.820, 0.823),
        "exam_auc": Printed(0.894, 0.892, 0.894),
    },
    "pixel_oracle": {
        "dsc": Printed(0.828, 0.827, 0.829),
        "pixel_ap": Printed(0.850, 0.849, 0.852),
        "exam_auc": Printed(0.943, 0.942, 0.944),
    },
    "qure_ai": {"exam_auc": Printed(0.941)},
}
"""Table 1, "Comparison of model performance on the CQ500 test set": model -> metric -> figure."""

P_VALUES: Mapping[Metric, float] = {"exam_auc": 0.009, "dsc": 0.012}
"""Abstract and key points: semi-supervised against baseline. Of pixel AP none is printed."""

SENSITIVITY = 0.920
SPECIFICITY: Mapping[str, float] = {"baseline": 0.630, "semi_supervised": 0.804}
"""Section 3.2: "at which the sensitivity is 0.920 on the CQ500 test set"."""

TABLE_2: Mapping[str, Mapping[Metric, Printed]] = {
    "none": {
        "pixel_ap": Printed(0.651, 0.649, 0.651),
        "exam_auc": Printed(0.965, 0.965, 0.967),
    },
    "power": {
        "pixel_ap": Printed(0.653, 0.651, 0.654),
        "exam_auc": Printed(0.975, 0.974, 0.976),
    },
    "log": {
        "pixel_ap": Printed(0.649, 0.647, 0.650),
        "exam_auc": Printed(0.937, 0.935, 0.939),
    },
    "all": {
        "pixel_ap": Printed(0.681, 0.680, 0.682),
        "exam_auc": Printed(0.933, 0.929, 0.933),
    },
}
"""Table 2, "Study of data augmentation contrast parameters", of the baseline on 93 validation exams
(section 3.3); "Baseline" there is no contrast."""

CONTRAST: Mapping[str, tuple[float, float]] = {"power": (0.85, 1.1), "log": (0.7, 1.1)}
"""Table 2: bounds of the uniform distribution of the exponent, and of the gain."""

TABLE_3: Mapping[str, Mapping[Metric, Printed]] = {
    "no_ranker": {
        "pixel_ap": Printed(0.682, 0.680, 0.683),
        "exam_auc": Printed(0.918, 0.914, 0.919),
    },
    "semi_supervised": {
        "pixel_ap": Printed(0.688, 0.686, 0.688),
        "exam_auc": Printed(0.948, 0.946, 0.949),
    },
}
"""Table 3, "Control study demonstrating the importance of the ranker", on the validation exams."""

TABLE_4: tuple[Mapping[str, Mapping[PixelMetric, Printed]], ...] = (
    {
        "baseline": {
            "pixel_ap": Printed(0.828, 0.817, 0.82),
            "dsc": Printed(0.809, 0.803, 0.812),
        },
        "semi_supervised": {
            "pixel_ap": Printed(0.848, 0.843, 0.853),
            "dsc": Printed(0.829, 0.825, 0.833),
        },
    },
    {
        "baseline": {
            "pixel_ap": Printed(0.854, 0.841, 0.855),
            "dsc": Printed(0.824, 0.816, 0.825),
        },
        "semi_supervised": {
            "pixel_ap": Printed(0.874, 0.861, 0.874),
            "dsc": Printed(0.842, 0.833, 0.842),
        },
    },
    {
        "baseline": {
            "pixel_ap": Printed(0.852, 0.844, 0.857),
            "dsc": Printed(0.823, 0.817, 0.825),
        },
        "semi_supervised": {
            "pixel_ap": Printed(0.875, 0.868, 0.880),
            "dsc": Printed(0.842, 0.836, 0.844),
        },
    },
)
"""Table 4, "Results of the test-retest study": segmentation -> model -> metric -> figure."""

SUPPLEMENT_TABLE_1: Mapping[str, Mapping[str, Printed]] = {
    "subarachnoid": {"baseline": Printed(0.914), "semi_supervised": Printed(0.936)},
    "subdural": {"baseline": Printed(0.829), "semi_supervised": Printed(0.919)},
    "intraparenchymal": {"baseline": Printed(0.872), "semi_supervised": Printed(0.894)},
    "epidural": {"baseline": Printed(0.922), "semi_supervised": Printed(0.976)},
}
"""Supplemental Table 1, "Exam-level AUC for baseline and SS models by intracranial hemorrhage
subtype", on isolated cases: type -> model -> figure. Intraventricular hemorrhage has none."""

CONTRADICTIONS = (
    "The abstract gives p = 0.009 for the exam AUC and 0.012 for DSC; section 3.2 gives p < 0.001 "
    "for both. The abstract's are taken.",
    "Section 2.4 defines p as twice the probability that a standard normal variable is below |Z|, "
    "which is never below 1; the probability that it is above |Z| is taken.",
    "Pixel AP of the image slice oracle, 0.823, is [0.820, 0.823] in table 1 and [0.843, 0.853], "
    "which is the student's interval, in section 3.2.",
    "Pixel AP of the baseline, 0.828, is [0.817, 0.828] in table 1 and [0.817, 0.82] in table 4, "
    "which leaves it out.",
)
"""Where the paper says two things, or what cannot be, and which of them is taken here."""
