"""What a review says: false-positive rates by percentile, agreement of readers, and which C."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

from sklearn.metrics import cohen_kappa_score

from ich_ray.review import SampledSlice
from ich_ray.review_decisions import VERDICTS, Verdict, majority
from ich_ray.statistics.proportions import CONFIDENCE, wilson


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What readers say of the slices around one percentile."""

    percent: float
    shown: int
    accept: int
    reject: int
    unsure: int
    """Said of a slice, or a tie of its readers: it counts as neither of the other two."""

    low: float
    high: float
    """Wilson interval of the rate, 95 %."""

    @property
    def decided(self) -> int:
        """Slices that were accepted or rejected."""
        return self.accept + self.reject

    @property
    def rate(self) -> float:
        """Share of false positives among the decided slices; NaN where there are none."""
        return self.reject / self.decided if self.decided else math.nan


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far two readers agree on the slices that both of them saw; unsure is an answer too."""

    readers: tuple[int, int]
    slices: int
    share: float
    """Of these slices with the same verdict."""

    kappa: float | None
    """Cohen's; None where both say one thing of all slices, so that chance alone would agree."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """Which C the review recommends."""

    top_percent: float | None
    """None: no percentile that was looked at is acceptable."""

    settled: bool
    """Whether the intervals of it and of all lower percentiles lie below the limit."""

    reason: str


def looks(
    sampled: Sequence[SampledSlice],
    verdicts: Mapping[str, Mapping[int, Verdict]],
    percents: Sequence[float],
) -> list[Look]:
    """Count the verdicts around each percentile; a slice's is that of most of its readers."""
    said = {key: majority(list(of_slice.values())) for key, of_slice in verdicts.items()}
    found = []
    for percent in percents:
        keys = [item.key for item in sampled if percent in item.percents]
        counts = Counter(said[key] for key in keys if key in said)
        low, high = wilson(counts["reject"], counts["accept"] + counts["reject"])
        look = Look(
            percent=percent,
            shown=len(keys),
            accept=counts["accept"],
            reject=counts["reject"],
            unsure=counts["unsure"],
            low=low,
            high=high,
        )
        found.append(look)
    return found


def agreements(verdicts: Mapping[str, Mapping[int, Verdict]]) -> list[Agreement]:
    """Compare each two readers on the slices that both decided."""
    readers = sorted({number for of_slice in verdicts.values() for number in of_slice})
    found = []
    for pair in combinations(readers, 2):
        both = [
            (of_slice[pair[0]], of_slice[pair[1]])
            for _, of_slice in sorted(verdicts.items())
            if pair[0] in of_slice and pair[1] in of_slice
        ]
        if not both:
            continue
        one, other = zip(*both, strict=True)
        # With one answer alone kappa is 0 / 0.
        kappa = (
            float(cohen_kappa_score(one, other, labels=list(VERDICTS)))
            if len({*one, *other}) > 1
            else None
        )
        share = sum(a == b for a, b in both) / len(both)
        found.append(Agreement(readers=pair, slices=len(both), share=share, kappa=kappa))
    return found


def advise(found: Sequence[Look], *, limit: float) -> Advice:
    """Recommend the largest C at which, and at all lower ones, false positives are few enough.

    The slices around a percentile are those that the next step of C would add. While at most
    `limit` of them are false, 0.5 by default, a positive label there is right at least as often
    as it is wrong; beyond, it teaches more error than truth, however good the labels above it are.

    Args:
        found: In ascending order of the percentile.
        limit: Largest false-positive rate that is acceptable.

    Returns:
        C, or None where not even the smallest percentile is acceptable. It is settled where the
        upper ends of the intervals lie below the limit; else the reason says how many decided
        slices would settle the rate that was seen.
    """
    # A percentile without a decided slice has no rate, and NaN is not acceptable.
    fits = [look.rate <= limit for look in found]
    count = fits.index(False) if False in fits else len(fits)
    beyond = _beyond(found[count], limit) if count < len(found) else "no larger C was looked at"
    if count == 0:
        do = (
            "look at smaller percentiles (review.percentiles), or train the teacher longer"
            if found[0].decided
            else "decide them; unsure, or a tie of readers, counts as neither"
        )
        return Advice(
            top_percent=None, settled=False, reason=f"no C can be recommended: {beyond}; {do}"
        )
    last = found[count - 1]
    open_looks = [look for look in found[:count] if look.high >= limit]
    reason = (
        f"C = {last.percent:g}: there, and at all lower percentiles, the false-positive rate is at "
        f"most {limit:g} ({_rate(last)}); {beyond}; "
    )
    if not open_looks:
        return Advice(
            top_percent=last.percent, settled=True, reason=f"{reason}the intervals settle it"
        )
    open_at = ", ".join(f"{look.percent:g} %" for look in open_looks)
    wanted = max(_settling(look.rate, limit) for look in open_looks)
    needed = f"about {wanted:.0f} decided there" if wanted < math.inf else "many more"
    return Advice(
        top_percent=last.percent,
        settled=False,
        reason=f"{reason}not settled: the interval at {open_at} reaches {limit:g}; at the rates "
        f"seen, {needed} would settle it (review.slices_per_percentile)",
    )


def _beyond(look: Look, limit: float) -> str:
    if not look.decided:
        return f"at {look.percent:g} % no slice is decided"
    settled = "" if look.low > limit else f", whose interval holds {limit:g} too"
    return f"at {look.percent:g} % it is more ({_rate(look)}{settled})"


def _rate(look: Look) -> str:
    return (
        f"{look.rate:.2f} [{look.low:.2f}, {look.high:.2f}], {look.reject} of {look.decided} at "
        f"{look.percent:g} %"
    )


def _settling(rate: float, limit: float) -> float:
    """Return from how many slices on Wilson's interval of a rate lies below the limit.

    Its upper end is the proportion that the score test just accepts.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    gap = limit - rate
    return math.inf if gap <= 0 else float(math.ceil(z * z * limit * (1 - limit) / gap**2))
