"""What a family of variants shows over seeds and over patients, and what it could have shown.

Two things vary: the training, which another seed would have made otherwise, and the patients, of
whom the test corpus is a sample. Intervals over seeds tell the first, on the same patients; the
reports' intervals tell the second, of one training; what both do at once tells statistics/seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtrit

from ich_ray.sweep import OverSeeds, over_seeds

METRICS = {"exam_auc": "exam AUC", "pixel_ap": "pixel AP", "dsc": "DSC"}
"""Key of a figure in a report -> what a table calls it."""

POWER, ALPHA = 0.8, 0.05
_QUANTILES = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class OfSeed:
    """The difference to the baseline in one seed."""

    seed: int
    estimate: float
    low: float
    """Of the 95 % interval over patients, from the seed's report."""

    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined:
    """The 95 % interval of a mean difference over other trainings and other patients at once."""

    low: float
    high: float
    p: float
    """Two-sided."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A variant less the baseline, in one metric."""

    seeds: OverSeeds
    """Mean of the differences paired by seed, and its t-interval: other trainings."""

    patients_low: float
    """Mean over seeds of the lower bounds over patients: other patients, of one training."""

    patients_high: float
    both: Joined | None
    """Over seeds and patients; None of one seed, or where it is undefined."""

    apart: int
    """Seeds in which the interval over patients leaves out zero."""

    detectable: float | None
    """Smallest true mean difference that so many seeds, varying so, show with a power of 80 %."""

    each: tuple[OfSeed, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmRow:
    """What came of one variant; keys are those of METRICS."""

    name: str
    figures: Mapping[str, OverSeeds]
    less_baseline: Mapping[str, Comparison]
    """Empty of the baseline itself."""


def power_of(difference: float, *, sd: float, seeds: int) -> float:
    """Return the power of a two-sided paired t-test at alpha = 0.05.

    Args:
        difference: True mean of the paired differences.
        sd: Their standard deviation from seed to seed, above 0.
        seeds: At least two.

    Source: Cohen 1988, 2.3, by the noncentral t distribution.

    >>> round(power_of(0.0, sd=1.0, seeds=5), 6)
    0.05
    """
    return _power(difference * np.sqrt(seeds) / sd, seeds)


def detectable(differences: Sequence[float]) -> float | None:
    """Return the smallest true difference that as many seeds detect with a power of 80 %.

    The spread of the differences is taken as the true one, which few seeds tell badly: of five
    it may be 0.6 to 2.9 times what was seen (95 %).

    Args:
        differences: Paired by seed.

    Returns:
        In the units of the differences; None of one seed, which tells no spread.
    """
    seeds = len(differences)
    if seeds < 2:
        return None
    sd = float(np.std(differences, ddof=1))
    if sd == 0:
        return 0.0
    # Beyond this shift the power is nearly 1, whatever the number of seeds.
    limit = 2 * _beyond(seeds) + 10
    shift = float(brentq(lambda shift: _power(shift, seeds) - POWER, 0.0, limit))
    return sd * shift / float(np.sqrt(seeds))


def rows_of(
    arms: Sequence[str],
    reports: Mapping[int, Mapping[str, Any]],
    over: Mapping[str, Any] | None = None,
) -> tuple[ArmRow, ...]:
    """Return the table of an experiment, a row a variant.

    Args:
        arms: Names of the models in the reports, the baseline first.
        reports: Seed -> its report.json, of the seeds that were evaluated. A figure that is
            undefined in one is left out there.
        over: The variants over all these seeds, as `over_trainings` in report.json; None of one.
    """
    baseline = arms[0]
    return tuple(
        ArmRow(
            name=arm,
            figures=_figures(arm, reports),
            less_baseline={} if arm == baseline else _less(arm, baseline, reports, over),
        )
        for arm in arms
    )


def table_lines(rows: Sequence[ArmRow]) -> list[str]:
    """Return rows as text: a block a metric, its variants below each other."""
    width = max(map(len, ["variant", *(row.name for row in rows)]))
    columns = "  ".join(f"{head:{size}}" for head, size in _COLUMNS.items())
    lines = []
    for key, title in METRICS.items():
        if not any(key in row.figures for row in rows):
            continue
        lines += [title, f"{'variant':{width}}  seeds  {columns}"]
        lines += [_line(row, key, width) for row in rows]
        lines.append("")
    return lines + list(NOTES) if lines else []


_COLUMNS = {
    **{"mean": 26, "less baseline": 26, "over patients": 18, "over both": 18, "p": 6},
    **{"apart": 7, "80 %": 4},
}
"""Head -> its width."""

NOTES = (
    "mean, less baseline: in brackets 95 % t-intervals over seeds of training (paired by seed), on",
    "  the same test patients: what other trainings would give.",
    "over patients: mean over seeds of the 95 % intervals of the difference that the reports give:",
    "  what other patients would give, of one training. More seeds do not narrow it.",
    "over both, p: what other trainings on other patients would give, of the mean difference",
    "  (Obuchowski and Rockette, trainings being readers). A claim needs this one.",
    "apart: seeds in which the interval over patients leaves out zero.",
    "80 %: smallest true difference that so many seeds show with a power of 80 % (paired t-test,",
    "  alpha 0.05, two-sided), if differences vary from seed to seed as these did.",
    "No interval here is adjusted for the number of variants.",
)


def _line(row: ArmRow, key: str, width: int) -> str:
    figure, less = row.figures.get(key), row.less_baseline.get(key)
    cells = [f"{row.name:{width}}", f"{figure.seeds if figure else 0:5}"]
    cells.append(f"{figure.text() if figure else '':26}")
    if less is not None:
        both = less.both
        smallest = "" if less.detectable is None else f"{less.detectable:.4f}"
        cells += [
            f"{less.seeds.text(sign='+'):26}",
            f"{f'[{less.patients_low:.4f}, {less.patients_high:.4f}]':18}",
            f"{f'[{both.low:.4f}, {both.high:.4f}]' if both else '':18}",
            f"{f'{both.p:.4f}' if both else '':6}",
            f"{f'{less.apart} of {len(less.each)}':7}",
            smallest,
        ]
    return "  ".join(cells).rstrip()


def _power(shift: float, seeds: int) -> float:
    """Average over the spreads that a test may see; given one, the mean is normal.

    SciPy 1.17's noncentral t says NaN where the shift is large.
    """
    edge = _beyond(seeds) * _spreads(seeds - 1)
    return float(np.mean(ndtr(shift - edge) + ndtr(-edge - shift)))


@lru_cache
def _spreads(freedom: int) -> Float64[np.ndarray, " quantile"]:
    """Return evenly spaced quantiles of the spread that is seen, of a true one of 1."""
    upper = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    return np.asarray(np.sqrt(chdtri(freedom, upper) / freedom))


def _beyond(seeds: int) -> float:
    """Return the t beyond which the test rejects."""
    return float(stdtrit(seeds - 1, 1 - ALPHA / 2))


def _figures(arm: str, reports: Mapping[int, Mapping[str, Any]]) -> dict[str, OverSeeds]:
    values = {
        key: [
            report["models"][arm][key]["estimate"]
            for report in reports.values()
            if report["models"][arm][key]["estimate"] is not None
        ]
        for key in METRICS
    }
    return {key: over_seeds(found) for key, found in values.items() if found}


def _less(
    arm: str,
    baseline: str,
    reports: Mapping[int, Mapping[str, Any]],
    over: Mapping[str, Any] | None,
) -> dict[str, Comparison]:
    found = {}
    joined = {
        one["metric"]: {name: one["joined"][name] for name in ("low", "high", "p")}
        for one in (over["differences"] if over else ())
        if (one["a"], one["b"]) == (arm, baseline)
    }
    for key in METRICS:
        each = []
        for seed, report in reports.items():
            told = report["differences"][f"{arm}_minus_{baseline}"][key]
            values = {name: told[name] for name in ("estimate", "low", "high")}
            if None not in values.values():
                each.append(OfSeed(seed=seed, **values))
        if each:
            both = joined.get(key, {"p": None})
            found[key] = _comparison(tuple(each), None if None in both.values() else Joined(**both))
    return found


def _comparison(each: tuple[OfSeed, ...], both: Joined | None) -> Comparison:
    estimates = [one.estimate for one in each]
    return Comparison(
        seeds=over_seeds(estimates),
        patients_low=float(np.mean([one.low for one in each])),
        patients_high=float(np.mean([one.high for one in each])),
        both=both,
        apart=sum(not one.low <= 0 <= one.high for one in each),
        detectable=detectable(estimates),
        each=each,
    )
