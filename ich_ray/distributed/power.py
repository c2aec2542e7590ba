"""Which differences a planned test corpus can show, told from what `evaluate` compares."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from ich_ray.distributed.estimates import priced
from ich_ray.distributed.evaluate import Source, source_of
from ich_ray.distributed.own_exams import evaluate_config
from ich_ray.distributed.resources import check_fits
from ich_ray.distributed.session import Session
from ich_ray.errors import QualityError
from ich_ray.reporting.figures.power import detectable_differences
from ich_ray.reporting.plain_values import plain
from ich_ray.statistics.comparison import Exams
from ich_ray.statistics.overlap import Overlap
from ich_ray.statistics.planning.pilots import (
    auc_pilot,
    auc_pilot_of_one,
    check_correlation,
    dsc_pilot,
)
from ich_ray.statistics.planning.power_table import PowerTable, power_table, table_lines
from ich_ray.statistics.pooled_exams import compared_exams, patient_overlap, scores_of
from ich_ray.statistics.tuning import tune
from ich_ray.storage import local_files

DSC_CAUTION = (
    "DSC: a few large bleeds decide it. Where some 35 patients of a simulated pilot had masks, its "
    "power was told too high by 10 to 14 points where it was low (benchmarks/power.py)."
)


@dataclass(frozen=True, slots=True)
class PowerSummary:
    """Where the tables lie, and what they say."""

    folder: str
    lines: tuple[str, ...]
    up_to_date: bool = False

    def line(self) -> str:
        """Return the tables for a person."""
        return "\n".join([*self.lines, f"power: {self.folder}"])


def plan_power(run: Session) -> dict[str, Any]:
    """Return what --dry-run shows; touches nothing."""
    source = source_of(run)
    return {
        "stage": "power",
        **source.plan(),
        "exams": list(run.settings.power.exams),
        **priced(run, source.planned()),
        "writes": run.settings.power.report,
    }


def tell_power(run: Session) -> PowerSummary:
    """Predict the pilot's exams where they are not, and write the tables.

    Raises:
        ConfigError: One model is compared and no correlation assumed; nothing to compare.
        QualityError: The pilot has too few patients of a class.
    """
    source = source_of(run)
    if len(source.names) == 1:
        check_correlation(_assumed(run))
    source.check()
    run.ensure_ray()
    check_fits(run.settings.cluster, *source.needs())
    exams, models = _pilot(run, source)
    tables, notes = _tables(run, exams, models)
    lines = (*table_lines(tables), *notes)
    folder = Path(run.settings.power.report)
    record = {"tables": plain(tables), "notes": notes, "models": list(models)}
    written = {
        "power.txt": ("\n".join(lines) + "\n").encode(),
        "power.json": (json.dumps(record, indent=1, sort_keys=True) + "\n").encode(),
        "power.svg": detectable_differences(tables),
    }
    for name, data in written.items():
        local_files.write_bytes(folder / name, data)
    return PowerSummary(str(folder), lines)


class PilotModel(NamedTuple):
    """What one model says of a pilot's exams."""

    scores: Float64[np.ndarray, " exam"]
    masks: Overlap
    """Of each patient."""


def _pilot(run: Session, source: Source) -> tuple[Exams, dict[str, PilotModel]]:
    """Return what the first models say of the test exams: two, or the only one."""
    source.predict()
    tuning = source.of_tuning()
    names = source.names[:2]
    levels = {name: tune(tuning[name], where=source.tuned_on).level for name in names}
    found = {name: one.exams for name, one in source.of_test(levels, None).models.items()}
    seen = compared_exams(found[names[0]], where=source.where)
    return seen.exams, {
        name: PilotModel(scores_of(found[name], seen), patient_overlap(found[name], seen))
        for name in names
    }


def _tables(
    run: Session, exams: Exams, models: Mapping[str, PilotModel]
) -> tuple[list[PowerTable], list[str]]:
    config, seed = run.settings.power, evaluate_config(run).seed
    prevalence = config.prevalence or None
    sizes = config.exams
    if len(models) == 1:
        (only,) = models.values()
        pilot = auc_pilot_of_one(
            only.scores, exams, correlation=_assumed(run), prevalence=prevalence, seed=seed
        )
        note = "DSC: not told from one model; predict the pilot with two."
        return [power_table(pilot, sizes=sizes, differences=config.auc_differences)], [note]
    b, a = models.values()
    pilot = auc_pilot(a.scores, b.scores, exams, prevalence=prevalence, seed=seed)
    tables = [power_table(pilot, sizes=sizes, differences=config.auc_differences)]
    try:
        of_masks = dsc_pilot(a.masks, b.masks, prevalence=prevalence, seed=seed)
    except QualityError as error:
        return tables, [f"DSC: {error}"]
    tables.append(power_table(of_masks, sizes=sizes, differences=config.dsc_differences))
    return tables, [DSC_CAUTION]


def _assumed(run: Session) -> float | None:
    correlation = run.settings.power.correlation
    return correlation if correlation >= 0 else None
