"""Rank: what each C would do, and what readers found around it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ich_ray.config import ReviewConfig
from ich_ray.distributed.lineage import PseudoLabelLineage, pseudo_label_lineage
from ich_ray.distributed.pseudo_label import prediction_tasks
from ich_ray.distributed.review import Sampled, predictions_identity, sampled
from ich_ray.distributed.session import Session
from ich_ray.errors import ConfigError
from ich_ray.review import Choice, sample_identity
from ich_ray.review_decisions import ReviewFile, read_review, verdicts_of
from ich_ray.review_figures import Advice, Agreement, Look, advise, agreements, looks
from ich_ray.storage.tables import open_table


@dataclass(frozen=True, kw_only=True, slots=True)
class RankSummary:
    """What a ranking, and a review of it, say of C."""

    name: str
    slices: int
    teacher: str
    predictions: str
    choices: Sequence[Choice]
    looks: Sequence[Look] = ()
    """Of the same percentiles; empty without a review."""

    readers: int = 0
    agreements: Sequence[Agreement] = ()
    advice: Advice | None = None
    by_prevalence: bool = False
    """Whether the settings take C from labelled slices instead."""

    def line(self) -> str:
        """Return a table for a person, and what it says."""
        head = f"rank {self.name}: {self.slices:,} slices, teacher {self.teacher}"
        told = [self.advice.reason] if self.advice else []
        if self.advice and self.advice.top_percent is not None:
            without = ", without prevalence_of" if self.by_prevalence else ""
            percent = f"{self.advice.top_percent:g}"
            told.append(f"to take it: pseudo_labels.{self.name}.top_percent={percent}{without}")
        between = [_agreement(one) for one in self.agreements]
        return "\n".join([head, *_table(self.choices, self.looks), *between, *told])


def plan_rank(run: Session, name: str, files: Sequence[Path]) -> dict[str, Any]:
    """Return what --dry-run shows; touches nothing.

    Raises:
        ConfigError: As of `rank`.
    """
    lineage = _predicted(run, name)
    return {
        "stage": "rank",
        "pseudo_labels": name,
        "teacher": lineage.teacher,
        "predictions": predictions_identity(lineage),
        "slices_at_most": sum(s.corpus.num_rows for s in lineage.selections),
        "review_files": len(_reviews(run, lineage, files)),
        "writes": "nothing",
    }


def rank(run: Session, name: str, files: Sequence[Path]) -> RankSummary:
    """Say what each percentile would do, and with decisions of readers which C to take.

    Args:
        run: Opens the predictions.
        name: Of the pseudo-labels.
        files: That the page of the review exported; none: no review.

    Raises:
        ConfigError: There are no predictions yet, or a file is of others, or not to be read.
        QualityError: The teacher says the same for every slice.
    """
    lineage = _predicted(run, name)
    reviews = _reviews(run, lineage, files)
    found = sampled(run, name, lineage)
    said = _said(run.settings.review, found, reviews) if reviews else {}
    return RankSummary(
        name=name,
        slices=len(found.ranking),
        teacher=lineage.teacher,
        predictions=predictions_identity(lineage),
        choices=found.choices,
        by_prevalence=bool(run.settings.pseudo_labels[name].prevalence_of),
        **said,
    )


def _said(config: ReviewConfig, found: Sampled, reviews: Sequence[ReviewFile]) -> dict[str, Any]:
    verdicts = verdicts_of(reviews, {item.key for item in found.slices})
    looked = looks(found.slices, verdicts, config.percentiles)
    return {
        "looks": looked,
        "readers": len({number for of_slice in verdicts.values() for number in of_slice}),
        "agreements": agreements(verdicts),
        "advice": advise(looked, limit=config.max_false_positive_rate),
    }


def _predicted(run: Session, name: str) -> PseudoLabelLineage:
    lineage = pseudo_label_lineage(run, name)
    if any(open_table(run.store, task.url) is None for task in prediction_tasks(run, lineage)):
        raise ConfigError(
            f"the teacher has not predicted all of pseudo_labels.{name}.unlabelled yet; run "
            f"ich-ray review SETTINGS.toml {name}, or ich-ray pseudo-label"
        )
    return lineage


def _reviews(run: Session, lineage: PseudoLabelLineage, files: Sequence[Path]) -> list[ReviewFile]:
    """Read the files; each must be of this ranking, and of this sample of it."""
    found = []
    ours = predictions_identity(lineage), sample_identity(run.settings.review)
    for number, path in enumerate(files, start=1):
        # Not its name, which may be the reader's.
        where = "the --review file" if len(files) == 1 else f"--review file {number}"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise ConfigError(f"cannot read {where}: {what}") from None
        file = read_review(text, where)
        if file.predictions != ours[0]:
            raise ConfigError(
                f"{where} is about predictions {file.predictions}, and these settings are about "
                f"{ours[0]}: another teacher, corpus or [input]; review again, or give the "
                "settings of that review"
            )
        if file.sample != ours[1]:
            raise ConfigError(
                f"{where} is about sample {file.sample}, and [review] now draws {ours[1]}; set "
                "review.percentiles, review.slices_per_percentile and review.seed as at the review"
            )
        found.append(file)
    return found


def _table(choices: Sequence[Choice], found: Sequence[Look]) -> list[str]:
    heads = ["C", "positive", "cut at p"]
    rows = [[f"{c.percent:g} %", f"{c.positive:,}", f"{c.cut:.4f}"] for c in choices]
    if found:
        heads += ["seen", "accept", "reject", "unsure", "false positive, 95 % interval"]
        for row, look in zip(rows, found, strict=True):
            counts = (look.accept, look.reject, look.unsure)
            seen = f"{sum(counts)} of {look.shown}"
            rate = "-" if math.isnan(look.rate) else f"{look.rate:.2f}"
            row += [seen, *map(str, counts), f"{rate} [{look.low:.2f}, {look.high:.2f}]"]
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (heads, *rows)
    ]


def _agreement(one: Agreement) -> str:
    kappa = "not defined: one answer alone" if one.kappa is None else f"{one.kappa:.2f}"
    return (
        f"readers {one.readers[0]} and {one.readers[1]}: the same verdict on {one.share:.0%} of "
        f"{one.slices} slices, Cohen's kappa {kappa}"
    )
