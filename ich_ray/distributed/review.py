"""Review: the slices around each percentile of a teacher's ranking, as a page for a radiologist.

It comes before pseudo-labels are made, so it makes the predictions that they will be made from.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ich_ray.config import PseudoLabelConfig
from ich_ray.distributed.estimates import priced
from ich_ray.distributed.lineage import PseudoLabelLineage, pseudo_label_lineage
from ich_ray.distributed.predict import planned_work, predict_all
from ich_ray.distributed.pseudo_label import (
    READERS,
    UnlabelledPart,
    prediction_tasks,
    ranking_of,
    unlabelled_parts,
)
from ich_ray.distributed.session import Session, fingerprint
from ich_ray.exam import Slice
from ich_ray.ranker import Ranking, ternary_mask
from ich_ray.reporting.review_page import ReviewedSlice, ReviewPage, png_of_levels, to_html
from ich_ray.review import Choice, SampledSlice, choices, near, sample, sample_identity
from ich_ray.storage.corpus import hounsfield, read_slices
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table, read_part
from ich_ray.storage.teacher_part import TeacherPart
from ich_ray.storage.urls import absolute, join
from ich_ray.windows import upsample


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewSummary:
    """Where a page lies, and what it shows."""

    name: str
    page: str
    slices: int
    exams: int
    percentiles: tuple[float, ...]
    predictions: str
    up_to_date: bool = False

    def line(self) -> str:
        """Return one line for a person."""
        percents = ", ".join(f"{percent:g}" for percent in self.percentiles)
        return (
            f"review {self.name}: {self.slices} slices of {self.exams} exams around {percents} %; "
            f"page: {self.page}; then ich-ray rank SETTINGS.toml {self.name} --review FILE"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """A ranking, and the slices of it that are looked at."""

    lineage: PseudoLabelLineage
    parts: Sequence[UnlabelledPart]
    ranking: Ranking
    choices: Sequence[Choice]
    slices: Sequence[SampledSlice]
    """In the order in which they are shown."""

    of_part: Sequence[Mapping[str, str]]
    """Of each part: key -> exam of its slices that are shown."""


def plan_review(run: Session, name: str) -> dict[str, Any]:
    """Return what --dry-run shows; touches nothing."""
    lineage = pseudo_label_lineage(run, name)
    config = run.settings.review
    tasks = prediction_tasks(run, lineage)
    missing = sum(open_table(run.store, task.url) is None for task in tasks)
    return {
        "stage": "review",
        "pseudo_labels": name,
        "teacher": lineage.teacher,
        "predictions": predictions_identity(lineage),
        "predictions_to_make": missing,
        **priced(run, planned_work(run, tasks)),
        "shows_at_most": config.slices_per_percentile * len(config.percentiles),
        "writes": _url(run, name, lineage),
    }


def review(run: Session, name: str) -> ReviewSummary:
    """Predict what is not predicted yet, draw the slices, and write the page.

    Raises:
        QualityError: The teacher says the same for every slice.
        BudgetError: The budget is passed; the predictions that are written are kept.
        ConfigError: The teacher or a corpus is missing, or the pool does not fit the cluster.
    """
    lineage = pseudo_label_lineage(run, name)
    predict_all(run, prediction_tasks(run, lineage))
    found = sampled(run, name, lineage)
    config = run.settings.pseudo_labels[name]
    with ThreadPoolExecutor(READERS) as readers:
        numbers = [number for number, keys in enumerate(found.of_part) if keys]
        pieces = readers.map(lambda number: _shown(run, config, found, number), numbers)
        shown = {item.key: item for piece in pieces for item in piece}
    page = ReviewPage(
        name=name,
        predictions=predictions_identity(lineage),
        sample=sample_identity(run.settings.review),
        positive_above=config.positive_above,
        negative_below=config.negative_below,
    )
    url = _url(run, name, lineage)
    html = to_html(page, [shown[item.key] for item in found.slices])
    run.store.write_bytes(url, html.encode())
    return ReviewSummary(
        name=name,
        page=url,
        slices=len(found.slices),
        exams=len({item.exam for item in found.slices}),
        percentiles=run.settings.review.percentiles,
        predictions=page.predictions,
    )


def predictions_identity(lineage: PseudoLabelLineage) -> str:
    """Return the hash of all that decides a ranking: teachers, corpora, preprocessing."""
    return fingerprint(**{k: v for k, v in lineage.inputs.items() if k != "prevalence_of"})


def sampled(run: Session, name: str, lineage: PseudoLabelLineage) -> Sampled:
    """Rank every unlabelled slice by the predictions that there are, and draw from it.

    Raises:
        QualityError: The teacher says the same for every slice.
    """
    config = run.settings.review
    parts = unlabelled_parts(run, name, lineage)
    ranking = ranking_of([part.said for part in parts])
    found = choices(ranking, config)
    with ThreadPoolExecutor(READERS) as readers:
        near_ones = list(readers.map(lambda part: _near(run.store, part.said, found), parts))
    p, keys, exams = (
        np.concatenate([piece[column] for piece in near_ones]) for column in ("p", "key", "exam")
    )
    slices = sample(p, keys, exams, found, config)
    drawn = {item.key for item in slices}
    return Sampled(
        lineage=lineage,
        parts=parts,
        ranking=ranking,
        choices=found,
        slices=slices,
        of_part=[
            {
                key: exam
                for key, exam in zip(piece["key"].tolist(), piece["exam"].tolist(), strict=True)
                if key in drawn
            }
            for piece in near_ones
        ],
    )


def _near(store: Store, part: TeacherPart, found: Sequence[Choice]) -> dict[str, np.ndarray]:
    p = part.probabilities()
    wanted = near(p, found)
    rows = read_part(store, part.urls[0], ("slice", "exam")).filter(wanted)
    keys, exams = (np.array(rows[name].to_pylist(), np.str_) for name in ("slice", "exam"))
    return {"p": p[wanted], "key": keys, "exam": exams}


def _shown(
    run: Session, config: PseudoLabelConfig, found: Sampled, number: int
) -> list[ReviewedSlice]:
    """Return the slices of one part of a corpus that are shown."""
    part = found.parts[number]
    wanted: dict[str, set[str]] = defaultdict(set)
    for key, exam in found.of_part[number].items():
        wanted[exam].add(key)
    maps = {
        key: logits
        for said in part.said.exams()
        for key, logits in zip(said.slices, said.maps, strict=True)
        if key in found.of_part[number]
    }
    shown = []
    for item, place, of in read_slices(run.store, part.url, wanted):
        rows, columns = item.stored.shape
        full = upsample(maps[item.key], rows=rows, columns=columns, size=run.settings.input.size)
        mask = ternary_mask(
            1 / (1 + np.exp(-full)),
            positive_above=config.positive_above,
            negative_below=config.negative_below,
        )
        facts = _facts(part.selection.corpus.name, item, f"{place} of {of}", int((mask == 1).sum()))
        shown.append(
            ReviewedSlice(
                key=item.key,
                picture=png_of_levels(hounsfield(item)),
                center=item.center,
                width=item.width,
                mask=mask,
                facts=list(facts),
            )
        )
    return shown


def _facts(corpus: str, item: Slice, place: str, marked: int) -> Iterator[tuple[str, str]]:
    yield "corpus", corpus
    yield "exam", item.exam
    yield "slice", place
    yield "thickness", _mm(item.geometry.thickness_mm)
    spacing = item.geometry.spacing_mm
    area = "" if spacing is None else f", {marked * spacing[0] * spacing[1]:.0f} mm²"
    yield "marked", f"{marked:,} pixels{area}" if marked else "no pixel"


def _mm(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g} mm"


def _url(run: Session, name: str, lineage: PseudoLabelLineage) -> str:
    config = run.settings.review
    tag = f"{predictions_identity(lineage)[:8]}-{sample_identity(config)[:8]}"
    return join(absolute(config.folder), f"{name}-{tag}.html")
