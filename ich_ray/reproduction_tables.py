"""The tables of Lin & Yuh from reports of our own, each figure beside the printed one.

Ours are means over seeds of training; in brackets the mean of the seeds' 95 % intervals over
patients. What the paper prints in brackets is narrower by far and no such interval (`faults.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.reproduction import Member
from ich_ray.reproduction_cells import Cell, Row, Table, Told, cell, mean_of
from ich_ray.statistics.operating_points import Rule
from ich_ray.statistics.paper import lin2022
from ich_ray.statistics.paper.lin2022 import Printed

METRICS = {"dsc": "DSC", "pixel_ap": "pixel AP", "exam_auc": "exam AUC"}
TITLES = {
    "baseline": "Baseline",
    "semi_supervised": "Semi-supervised",
    "image_slice_oracle": "Image slice oracle",
    "pixel_oracle": "Pixel oracle",
    "qure_ai": "Qure.ai",
    "no_ranker": "No ranker",
    "none": "No contrast",
    "power": "Power law",
    "log": "Logarithm",
    "all": "All",
}
PIXEL_METRICS = ("pixel_ap", "dsc")
MODELS = ("baseline", "semi_supervised")
DIFFERENCE = "semi_supervised_minus_baseline"

TABLE_1 = ("1", "Models on the test exams", lin2022.TABLE_1)
TABLE_2 = ("2", "Contrast of the augmentation, on validation exams", lin2022.TABLE_2)
TABLE_3 = ("3", "The ranker, on validation exams", lin2022.TABLE_3)

Report = Mapping[str, Any]
"""A report.json."""


def tables_of(reports: Mapping[Member, Report]) -> tuple[Table, ...]:
    """Return every table for which there are reports.

    Args:
        reports: Member of the study -> its report.json, of those that were evaluated.
    """
    test, contrasts, ranker = (_of(reports, table) for table in ("1", "2", "3"))
    masks = list(dict.fromkeys(member.masks for member in reports if member.table == "4"))
    readings = {"": test} | {one: _of(reports, "4", one) for one in masks}
    of_validation = {key: title for key, title in METRICS.items() if key != "dsc"}
    made = [
        _of_models(TABLE_1, test, columns=METRICS, beside=True),
        _comparison(test),
        _operating_points(test),
        _of_models(TABLE_2, contrasts, columns=of_validation),
        _of_models(TABLE_3, ranker, columns=of_validation),
        _segmentations(readings) if masks else None,
        _subtypes(test),
    ]
    return tuple(table for table in made if table is not None)


def _of(reports: Mapping[Member, Report], table: str, masks: str = "") -> dict[int, Report]:
    """Return the reports of one table, by seed."""
    return {
        member.seed: report
        for member, report in reports.items()
        if (member.table, member.masks) == (table, masks)
    }


def _of_models(
    of: tuple[str, str, Mapping[str, Mapping[Any, Printed]]],
    reports: Mapping[int, Report],
    *,
    columns: Mapping[str, str],
    beside: bool = False,
) -> Table | None:
    """Return a table with a row a model: the paper's, and `beside` them our others."""
    if not reports:
        return None
    name, title, printed = of
    ours = [
        model
        for model, one in next(iter(reports.values()))["models"].items()
        if one["kind"] == "network"
    ]
    names = [*printed, *(model for model in ours if model not in printed)]
    shown = [one for one in names if one in printed or beside]
    rows = [
        Row(
            title=TITLES.get(model, model),
            cells={
                key: cell(
                    [r["models"][model][key] for r in reports.values() if model in r["models"]],
                    printed.get(model, {}).get(key),
                )
                for key in columns
            },
        )
        for model in shown
    ]
    return Table(name=name, title=title, columns=columns, rows=tuple(rows))


def _comparison(reports: Mapping[int, Report]) -> Table | None:
    """Return the differences that the abstract claims."""
    if not reports:
        return None
    rows = [
        Row(
            title=f"Difference in {title}",
            cells={
                "figure": cell(
                    [report["differences"][DIFFERENCE][key] for report in reports.values()],
                    _less(lin2022.TABLE_1, key),
                    printed_p=lin2022.P_VALUES.get(key),  # type: ignore[call-overload]
                )
            },
        )
        for key, title in METRICS.items()
    ]
    return Table(
        name="Abstract",
        title="Semi-supervised less baseline",
        columns={"figure": "figure"},
        rows=tuple(rows),
    )


def _operating_points(reports: Mapping[int, Report]) -> Table | None:
    """Return the specificity at the sensitivity that the paper names."""
    if not reports:
        return None
    return Table(
        name="Section 3.2",
        title=f"Specificity at a sensitivity of {lin2022.SENSITIVITY:g}",
        columns={"figure": "specificity"},
        rows=tuple(_specificity(model, reports) for model in lin2022.SPECIFICITY),
        notes=(
            "The paper chose the operating point on the test exams themselves; here tuning exams "
            "fix the threshold, so that the test exams' sensitivity lies near 0.92, not at it.",
        ),
    )


def _specificity(model: str, reports: Mapping[int, Report]) -> Row:
    rule = str(Rule("sensitivity", lin2022.SENSITIVITY))
    points = [
        point
        for report in reports.values()
        for point in report["operating_points"]
        if (point["model"], point["rule"]) == (model, rule)
    ]
    reached = ", ".join(f"{one['sensitivity']['estimate']:.3f}" for one in points)
    return Row(
        title=TITLES[model],
        cells={
            "figure": cell(
                [one["specificity"] for one in points], Printed(lin2022.SPECIFICITY[model])
            )
        },
        note=f"sensitivity on the test exams: {reached}" if points else "no tuning exams",
    )


def _segmentations(readings: Mapping[str, Mapping[int, Report]]) -> Table:
    """Return table 4: the same exams against each reading, and the mean of all readings.

    Args:
        readings: Selection -> seed -> report; the first is that of the other tables.
    """
    columns = {
        f"{model}-{key}": f"{TITLES[model]} {METRICS[key]}"
        for key in PIXEL_METRICS
        for model in MODELS
    } | {f"difference-{key}": f"Difference in {METRICS[key]}" for key in PIXEL_METRICS}
    rows = [
        Row(
            title=f"Segmentation {number + 1}",
            cells=_against(list(reports.values()), _printed_of(number)),
            note=masks,
        )
        for number, (masks, reports) in enumerate(readings.items())
    ]
    seeds = set.intersection(*(set(reports) for reports in readings.values()))
    means = [_averaged([reports[seed] for reports in readings.values()]) for seed in sorted(seeds)]
    if means:
        rows.append(Row(title="Mean of the segmentations", cells=_against(means, {})))
    return Table(
        name="4",
        title="The same exams against each segmentation of them",
        columns=columns,
        rows=tuple(rows),
        notes=(
            "Intervals of the mean of the segmentations are the mean of theirs: right if what one "
            "patient adds is the same in all, else too wide.",
            "The paper's paired t-test over bootstrap samples of each segmentation calls equal "
            "models different four times in five; it is not repeated here (evaluate.paper=true "
            "shows it in the reports).",
        ),
    )


def _printed_of(segmentation: int) -> Mapping[str, Mapping[Any, Printed]]:
    return lin2022.TABLE_4[segmentation] if segmentation < len(lin2022.TABLE_4) else {}


def _against(
    reports: Sequence[Report], printed: Mapping[str, Mapping[Any, Printed]]
) -> dict[str, Cell]:
    """Return the row of one reading."""
    found = {}
    for key in PIXEL_METRICS:
        for model in MODELS:
            told = [report["models"][model][key] for report in reports]
            found[f"{model}-{key}"] = cell(told, printed.get(model, {}).get(key))
        less = [report["differences"][DIFFERENCE][key] for report in reports]
        found[f"difference-{key}"] = cell(less, _less(printed, key))
    return found


def _averaged(reports: Sequence[Report]) -> Report:
    """Return a report whose figures are the means over readings."""

    def mean(told: Sequence[Told]) -> Told:
        return {key: mean_of([one[key] for one in told]) for key in ("estimate", "low", "high")}

    return {
        "models": {
            model: {key: mean([r["models"][model][key] for r in reports]) for key in PIXEL_METRICS}
            for model in MODELS
        },
        "differences": {
            DIFFERENCE: {
                key: mean([r["differences"][DIFFERENCE][key] for r in reports])
                for key in PIXEL_METRICS
            }
        },
    }


def _less(printed: Mapping[str, Mapping[Any, Printed]], key: str) -> Printed | None:
    """Return what is printed of the student less what is printed of the baseline."""
    baseline, student = (printed.get(model, {}).get(key) for model in MODELS)
    if baseline is None or student is None:
        return None
    return Printed(round(student.value - baseline.value, 3))


def _subtypes(reports: Mapping[int, Report]) -> Table | None:
    """Return the supplemental table: exam AUC of each type alone against exams without a bleed."""
    if not reports:
        return None
    rows = []
    for name in HEMORRHAGE_TYPES:
        groups = [
            group
            for report in reports.values()
            for group in (report["further"] or {"groups": []})["groups"]
            if (group["kind"], group["name"]) == ("type alone", name) and group["aucs"]
        ]
        printed = lin2022.SUPPLEMENT_TABLE_1.get(name, {})
        cells = {
            model: cell([one["aucs"][model] for one in groups], printed.get(model))
            for model in MODELS
        }
        note = f"{groups[0]['positive']} exams" if groups else "fewer than two such patients"
        rows.append(Row(title=name.capitalize(), cells=cells, note=note))
    return Table(
        name="Supplement 1",
        title="Exam AUC by type of bleed, alone",
        columns={model: TITLES[model] for model in MODELS},
        rows=tuple(rows),
    )
