"""What an ingest would do, and what it did, for a person and for `--json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestPlan:
    """What an ingest would do."""

    corpus: str
    known_objects: int
    new_objects: int
    new_bytes: int
    parts: int
    """An estimate: patients are known only after the headers."""

    slices: int
    """New ones, an estimate: volumes hold several."""

    cpu_hours: float
    """An estimate, by the number of slices."""

    cost: float
    """Of these hours, by `budget.price_per_cpu_hour`."""

    gone: int
    """Objects of the corpus that the source no longer holds; their slices are kept."""

    estimated_by: str = "ingest.cpu_seconds_per_1000_slices"
    """Where the rate of the estimate comes from."""

    warning: str = ""
    """That this and what was planned before it pass the budget."""

    def line(self) -> str:
        """Return one line for a person."""
        return (
            f"ingest {self.corpus}: {self.new_objects} new objects "
            f"({self.new_bytes / 1e6:.1f} MB) in about {self.parts} parts, "
            f"{self.cpu_hours:.2f} CPU hours, cost {self.cost:.2f}; "
            f"{self.known_objects} known, {self.gone} gone from the source"
            + (f"; {self.warning}" if self.warning else "")
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestSummary:
    """What an ingest did."""

    corpus: str
    version: int
    """Of the slices table; -1 if there is none yet."""

    objects: int = 0
    """New objects of the source."""

    accepted_slices: int = 0
    """Read, not taken over."""

    accepted_masks: int = 0
    """Objects: a segmentation of many slices is one."""

    labelled_slices: int = 0
    """Accepted slices that the table of labels names."""

    duplicates: int = 0
    """Of the new objects."""

    rejected: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number; `missing` counts labels without an object."""

    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Reason -> pseudonyms of some objects; --private-map tells whose they are."""

    parts: int = 0
    bytes: int = 0
    """Of the parts."""

    exams_anew: int = 0
    """Exams of the corpus that were planned anew, since something of them is new."""

    gone: int = 0
    """Objects of the corpus that the source no longer holds; their slices are kept."""

    series_rules: Mapping[str, int] = field(default_factory=dict)
    """Rule -> number of exams whose series it chose (ich_ray/series.py)."""

    exams_without_series: Mapping[str, int] = field(default_factory=dict)
    """Rules that dropped every series of an exam -> number of exams."""

    missing_slices: int = 0
    """In gaps of the series that were kept; the table of series says where."""

    up_to_date: bool = False

    def line(self) -> str:
        """Return one line for a person, and one more for each reason of rejection."""
        gone = f"; {self.gone} objects gone from the source are kept" if self.gone else ""
        if self.up_to_date:
            return f"ingest {self.corpus}: up to date, version {self.version}{gone}"
        anew = f"; {self.exams_anew} exams planned anew" if self.exams_anew else ""
        examples = "".join(
            f"\n  {reason}: {self.rejected[reason]}, e.g. {', '.join(sources)}"
            for reason, sources in self.examples.items()
        )
        return (
            f"ingest {self.corpus}: {self.accepted_slices} slices, {self.accepted_masks} masks, "
            f"{self.labelled_slices} labels, {self.duplicates} duplicates, "
            f"rejected: {_counted(self.rejected) or 'none'}; {self.objects} new objects in "
            f"{self.parts} parts ({self.bytes / 1e6:.1f} MB), version {self.version}"
            f"{self._series_line()}{anew}{gone}{examples}"
        )

    def _series_line(self) -> str:
        """Say what was decided over series, where there was something to decide."""
        said = ""
        if set(self.series_rules) - {"only_series"}:
            said += f"; series of exams: {_counted(self.series_rules)}"
        if self.exams_without_series:
            said += f"; exams without a usable series: {_counted(self.exams_without_series)}"
        if self.missing_slices:
            said += f"; {self.missing_slices} slices missing in gaps"
        return said


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in numbers.items())
