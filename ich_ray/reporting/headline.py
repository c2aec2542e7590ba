"""What may be claimed: a verdict for each metric, from the interval of a difference."""

import math
from typing import Literal

from ich_ray.reporting.contents import ModelResult, NamedDifference, Report
from ich_ray.reporting.over_trainings import of_trainings, pooled_difference
from ich_ray.statistics.bootstrap import Difference
from ich_ray.statistics.comparison import METRICS, STUDENT, TEACHER, Metric

Verdict = Literal["better", "worse", "not distinguishable", "not measured"]

FEW_OF_A_CLASS, FEW_BLEEDS, FEW_FOR_LESIONS = 30, 30, 40
"""Patients; below, intervals hold the truth clearly less often than they say."""

SHORT: dict[Metric, str] = {"exam_auc": "exam AUC", "dsc": "DSC", "pixel_ap": "pixel AP"}


def verdict(difference: Difference | None) -> Verdict:
    """Say what a difference shows at 95 %.

    Interval and p-value may come from two methods; a claim needs both.

    >>> verdict(Difference(0.03, 0.01, 0.05, 0.004))
    'better'
    >>> verdict(Difference(0.03, 0.0, 0.06, 0.05))
    'not distinguishable'
    """
    if difference is None or not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        return "not measured"
    if difference.low <= 0 <= difference.high or difference.p >= 0.05:
        return "not distinguishable"
    return "better" if difference.low > 0 else "worse"


def non_inferior(difference: Difference | None, margin: float) -> bool | None:
    """Say whether the first model is shown to lose less than a margin; None where nothing is known.

    It is where the 95 % interval lies above -margin: a one-sided test at 2.5 %.

    Source: ICH E9 3.3.2; Piaggio et al., JAMA 308 (2012) 2594-2604 (CONSORT).

    >>> non_inferior(Difference(-0.005, -0.015, 0.005, 0.3), 0.02)
    True
    """
    if difference is None or not math.isfinite(difference.low):
        return None
    return difference.low > -margin


def main_difference(report: Report) -> NamedDifference | None:
    """Return the comparison of the headline: student minus teacher, else the first of networks.

    Of recipes that were trained several times, over all their trainings.
    """
    pooled = pooled_difference(report.over_trainings)
    if pooled is not None:
        return pooled
    networks = {model.name for model in report.models if model.kind == "network"}
    first = (d for d in report.differences if {d.a, d.b} <= networks)
    return report.difference(STUDENT, TEACHER) or next(first, None)


def headline(report: Report) -> str:
    """Return one sentence: is the student better, worse or not distinguishable, by metric."""
    pair = main_difference(report)
    if pair is None:
        return "No two networks were compared, so this report makes no claim of improvement."
    a, b = report.title_of(pair.a), report.title_of(pair.b)
    told = pair.a != STUDENT or "student" in a.lower()
    subject = a if told else f"The student, {a},"
    by_verdict: dict[Verdict, list[str]] = {}
    for metric, difference in pair.metrics().items():
        by_verdict.setdefault(verdict(difference), []).append(SHORT[metric])
    phrases: dict[Verdict, str] = {
        "better": f"better than {b} in",
        "worse": f"worse than {b} in",
        "not distinguishable": f"not distinguishable from {b} at 95\u00a0% in",
        "not measured": "not compared in",
    }
    parts = [f"{phrases[v]} {_listed(by_verdict[v])}" for v in phrases if v in by_verdict]
    return f"{subject} is {'; '.join(parts)}."


def in_reading_order(report: Report) -> list[NamedDifference]:
    """Return the differences, the headline's first, networks before and minus rivals."""
    networks = {model.name for model in report.models if model.kind == "network"}
    turned = [
        report.difference(d.b, d.a) or d if d.b in networks and d.a not in networks else d
        for d in report.differences
    ]
    main = main_difference(report)

    def place(pair: NamedDifference) -> tuple[bool, bool]:
        is_main = main is not None and {pair.a, pair.b} == {main.a, main.b}
        return not is_main, not {pair.a, pair.b} <= networks

    return [main if main and not place(d)[0] else d for d in sorted(turned, key=place)]


def cautions(report: Report) -> list[str]:
    """Return what a reader is to know before he believes the results."""
    return [
        *unbeaten_rivals(report),
        *narrow_intervals(report),
        *of_trainings(report.over_trainings, marked_patients=report.marked_patients),
    ]


def narrow_intervals(report: Report) -> list[str]:
    """Return a sentence for each kind of interval that so few patients make too narrow.

    Source: simulated corpora of `make bench-evaluate`; 95 of 100 intervals should hold the truth.
    """
    bleeding, others = report.patients
    sentences = []
    if any(model.exam_auc for model in report.models) and min(bleeding, others) < FEW_OF_A_CLASS:
        sentences.append(
            f"Of the {bleeding} patients with and {others} without hemorrhage the rarer are fewer "
            f"than {FEW_OF_A_CLASS}: intervals of an exam AUC are too narrow then. In simulated "
            "corpora with 20 such patients DeLong's held the truth 91 times in 100, with 10 of "
            "them 90 times, and the bootstrap's 89 and 85 times. DeLong's test of a difference "
            "kept its level."
        )
    if 0 < report.marked_patients < FEW_BLEEDS:
        sentences.append(
            f"The patients with marked hemorrhage, {report.marked_patients}, are fewer than "
            f"{FEW_BLEEDS}: intervals of a DSC and a pixel AP, which a few large bleeds decide, "
            "are too narrow then. In simulated corpora with 20 such patients they held the truth "
            "92 to 94 times in 100, with 10 of them 90 to 92 times, with 2 of them 83 to 85 times. "
            "Of equal models no more than 4 in 100 were called different, but with 2 or 3 such "
            "patients some 10 in pixel AP. With 20 and with 10 bleeding patients intervals of a "
            "slice AUC held it 90 and 91 times, of a mean DSC of exams 94 and 90 times; that of a "
            "slice F1 held it 96 times."
        )
    if 0 < report.marked_patients < FEW_FOR_LESIONS:
        sentences.append(
            f"The patients with marked hemorrhage, {report.marked_patients}, are fewer than "
            f"{FEW_FOR_LESIONS}: intervals of lesion sensitivity and NSD are too narrow then. In "
            "simulated corpora with 35 such patients both held the truth 93 times in 100, with 20 "
            "of them 91 and 92 times, with 10 of them 88 and 85 times."
        )
    return sentences


def unbeaten_rivals(report: Report) -> list[str]:
    """Return a sentence for each network and rival that it is not shown to beat."""
    sentences = []
    for network in (model for model in report.models if model.kind == "network"):
        for rival in (model for model in report.models if model.kind == "rival"):
            metrics = [SHORT[m] for m in METRICS if not _beats(report, network, rival, m)]
            if metrics:
                sentences.append(
                    f"{network.title} is not shown to be better than {rival.title}, "
                    f"which needs no training, in {_listed(metrics)}."
                )
    return sentences


def _beats(report: Report, network: ModelResult, rival: ModelResult, metric: Metric) -> bool:
    ours, theirs = network.metrics()[metric], rival.metrics()[metric]
    if ours is None or theirs is None or math.isnan(theirs.estimate):
        return True  # nothing to beat
    pair = report.difference(network.name, rival.name)
    if pair is not None and pair.metrics()[metric] is not None:
        return verdict(pair.metrics()[metric]) == "better"
    return ours.estimate > theirs.estimate


def _listed(words: list[str]) -> str:
    """Join words as a sentence does.

    >>> _listed(["DSC", "pixel AP", "exam AUC"])
    'DSC, pixel AP and exam AUC'
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
