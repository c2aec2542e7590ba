"""What a run answers to items of CLAIM 2024: a sentence of the report's own values, or nothing."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ich_ray.reporting.contents import Report
from ich_ray.reporting.headline import SHORT
from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.comparison import METRICS, Metric

TRAINING = ("optimizer", "learning_rate", "schedule", "batch", "steps", "crop", "augment", "seed")
"""Settings of a model that are named; all stand in the report."""


def _aim(report: Report) -> str:
    return report.question


def _sources(report: Report) -> str:
    return _sentence(
        "Read were",
        (f"{c.name} ({c.exams:,} exams, version {c.version}, {c.role})" for c in report.corpora),
    )


def _criteria(report: Report) -> str:
    """Tell the reasons for which objects were rejected: the criteria that the software applies."""
    reasons = {
        outcome.partition("(")[2].rstrip(")").replace("_", " ")
        for outcomes in report.ledger.values()
        for outcome in outcomes
        if "(" in outcome
    }
    return _sentence("Input objects were left out for these reasons:", sorted(reasons), ", ")


def _preprocessing(report: Report) -> str:
    section, told = _section(report, "input"), []
    if "window" in section:
        low, high = section["window"]
        told.append(f"{low:g} to {high:g} HU, scaled to 0 to 1")
    if "size" in section:
        size = section["size"]
        told.append(f"a grid of {size} x {size} pixels" if size else "pixel grids as they came")
    if "channels" in section:
        neighbours = section["channels"] == "neighbours"
        told.append("a slice and its two neighbours" if neighbours else "single slices")
    return _sentence("A network sees", told)


def _pseudonyms(report: Report) -> str:
    keys = {
        "environment": "a key of its own, which this report does not hold",
        "public": "the public key, for corpora that are public",
    }
    key = keys.get(str(report.settings.get("identity")))
    return f"Patients, exams and slices are named by hashes under {key}." if key else ""


def _missing(report: Report) -> str:
    left_out = _left_out(report)
    return f"{left_out}, and are counted by reason." if left_out else ""


def _reference(report: Report) -> str:
    labelled = [c.name for c in report.corpora if c.positive_slices is not None]
    hidden = [c.name for c in report.corpora if c.positive_slices is None]
    parts = [f"labels of slices in {', '.join(dict.fromkeys(labelled))}"] if labelled else []
    if report.marked_patients:
        parts.append(f"masks of hemorrhage in {report.marked_patients:,} test patients")
    if parts and hidden:
        parts.append(f"none used of {', '.join(dict.fromkeys(hidden))}")
    return _sentence("Reference:", parts)


def _partitions(report: Report) -> str:
    exams: Counter[str] = Counter()
    for corpus in report.corpora:
        exams[corpus.role] += corpus.exams
    return _sentence(
        "By the settings' selections:", (f"{role} {count:,} exams" for role, count in exams.items())
    )


def _disjoint(report: Report) -> str:
    if not any(corpus.role == "test" for corpus in report.corpora):
        return ""
    return (
        "At the patient: an evaluation is refused where a test patient, by identifier, is one that "
        "a model has learned from or that a threshold was fixed on."
    )


def _networks(report: Report) -> str:
    told = (f"{title}: {model['network']}" for title, model in _models(report, "network"))
    return _sentence("Networks:", told)


def _software(report: Report) -> str:
    revision = next(
        (v for k, v in report.provenance.items() if k.replace("_", " ") == "code revision"), ""
    )
    return f"ich_ray, code revision {revision}." if revision else ""


def _initialisation(report: Report) -> str:
    told = []
    for title, model in _models(report, "init"):
        start = "random" if model["init"] == "random" else f"the weights of {model['init']}"
        trunk = ", the trunk from a file of weights" if model.get("init_trunk") else ""
        told.append(f"{title}: {start}{trunk}")
    return _sentence("Weights at the start:", told)


def _training(report: Report) -> str:
    told = []
    for title, model in _models(report, "steps"):
        values = (f"{key.replace('_', ' ')} {model[key]}" for key in TRAINING if key in model)
        told.append(f"{title}: {', '.join(values)}")
    return _sentence("All settings stand in this report; of them", told)


def _chosen(report: Report) -> str:
    told = []
    for title, model in _models(report, "validation"):
        keep, metric = (model["validation"].get(key) for key in ("keep", "metric"))
        if keep == "best":
            told.append(f"{title}: those best in {SHORT.get(metric, metric)} on tuning exams")
        elif keep == "last":
            told.append(f"{title}: those of the last step")
    return _sentence("Weights that were tested:", told)


def _ensemble(report: Report) -> str:
    tested = [title for title, _ in _models(report, "network")]
    pools = _section(report, "pseudo_labels")
    averaged = [name for name, pool in pools.items() if pool.get("other_teachers")]
    parts = [f"each tested network ({', '.join(tested)}) is one model"] if tested else []
    if tested and averaged:
        parts.append(f"several teachers are averaged in the pseudo-labels {', '.join(averaged)}")
    return _sentence("Of ensembles:", parts)


def _metrics(report: Report) -> str:
    return _sentence(
        "Metrics:", (SHORT[metric] for metric in METRICS if _has(report, metric)), ", "
    )


def _uncertainty(report: Report) -> str:
    parts = []
    if any(_bounded(value) for model in report.models for value in model.metrics().values()):
        parts.append("95 % intervals of figures")
    if any(value for pair in report.differences for value in pair.metrics().values()):
        parts.append("95 % intervals and two-sided p-values of differences on the same exams")
    if report.paired_calls:
        parts.append("p-values of right calls, adjusted for their number")
    return _sentence("Given are", parts)


def _counts(report: Report) -> str:
    positive, negative = report.patients
    if not positive + negative:
        return ""
    told = [f"{positive:,} with and {negative:,} without hemorrhage", _left_out(report)]
    return _sentence("Test patients:", filter(None, told))


def _performance(report: Report) -> str:
    told = []
    for model in report.models:
        figures = [
            f"{SHORT[metric]} {_figure(value)}"
            for metric, value in model.metrics().items()
            if value is not None and math.isfinite(value.estimate)
        ]
        if figures:
            told.append(f"{model.title}: {', '.join(figures)}")
    return _sentence("On the test exams,", told)


def _diagnostic(report: Report) -> str:
    parts = []
    if report.operating_points:
        rules = dict.fromkeys(str(point.rule) for point in report.operating_points)
        parts.append(
            "sensitivity and specificity with intervals, at thresholds that tuning exams fixed "
            f"({', '.join(rules)})"
        )
    curves = [model.title for model in report.models if model.roc is not None]
    if curves:
        parts.append(f"ROC curves of {', '.join(curves)}")
    if _has(report, "exam_auc"):
        parts.append("exam AUC with intervals")
    return _sentence("Given are", parts)


def _failures(report: Report) -> str:
    parts = []
    if report.operating_points:
        parts.append("exams found, missed, called in error and cleared, by model and threshold")
    if report.gallery:
        parts.append(f"what was missed and marked in error in {len(report.gallery)} slices")
    return _sentence("Shown are", parts)


def _details(report: Report) -> str:
    parts = []
    if report.methods:
        parts.append("the methods in sentences")
    if report.settings:
        parts.append("all settings")
    if report.provenance:
        parts.append("versions of code, models and tables")
    return _sentence("This report holds", parts, ", ")


ANSWERS: Mapping[int, Callable[[Report], str]] = {
    4: _aim,
    7: _sources,
    8: _criteria,
    9: _preprocessing,
    11: _pseudonyms,
    12: _missing,
    14: _reference,
    19: _partitions,
    20: _disjoint,
    22: _networks,
    23: _software,
    24: _initialisation,
    25: _training,
    26: _chosen,
    27: _ensemble,
    28: _metrics,
    29: _uncertainty,
    35: _counts,
    37: _performance,
    38: _diagnostic,
    39: _failures,
    42: _details,
}
"""Number of an item -> what answers it, with an empty text where the report does not know."""


def _sentence(head: str, parts: Iterable[str], between: str = "; ") -> str:
    joined = between.join(parts)
    return f"{head} {joined}." if joined else ""


def _section(report: Report, *path: str) -> Mapping[str, Any]:
    """Return a section of the settings; empty where they have none."""
    found: Any = report.settings
    for name in path:
        found = found.get(name) or {}
    return dict(found)


def _models(report: Report, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the title and the settings of each compared model that has such a setting."""
    for name, section in _section(report, "evaluate", "models").items():
        settings = _section(report, "models", section)
        if key in settings:
            yield report.title_of(name), settings


def _left_out(report: Report) -> str:
    counts = [item for outcomes in report.ledger.values() for item in outcomes.items()]
    if not counts:
        return ""
    left_out = sum(number for outcome, number in counts if not outcome.startswith("accepted"))
    return f"{left_out:,} of {sum(number for _, number in counts):,} input objects were left out"


def _has(report: Report, metric: Metric) -> bool:
    values = (model.metrics()[metric] for model in report.models)
    return any(value is not None and math.isfinite(value.estimate) for value in values)


def _bounded(value: Interval | None) -> bool:
    return value is not None and math.isfinite(value.low) and math.isfinite(value.high)


def _figure(value: Interval) -> str:
    bounds = f" [{value.low:.3f}, {value.high:.3f}]" if _bounded(value) else ""
    return f"{value.estimate:.3f}{bounds}"
