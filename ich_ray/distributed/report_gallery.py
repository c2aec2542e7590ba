"""Which slices of the test exams the report shows, and what each model marks on them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from ich_ray.distributed.evaluate import Evaluation
from ich_ray.distributed.lineage import trained_model
from ich_ray.distributed.own_exams import evaluate_config
from ich_ray.distributed.part_statistics import reference_of
from ich_ray.distributed.predict import prediction_task
from ich_ray.distributed.session import Selection, Session, select
from ich_ray.exam import Slice
from ich_ray.reporting.contents import TITLES, GallerySlice
from ich_ray.statistics.score_levels import quantise_logits
from ich_ray.statistics.shown_exams import ShownExam, shown_exams
from ich_ray.storage.corpus import hounsfield, index_table, read_exams
from ich_ray.storage.predictions import decode_map
from ich_ray.storage.tables import open_table, read_rows
from ich_ray.windows import upsample

BRAIN_WINDOW = (0.0, 80.0)


def gallery(run: Session, found: Evaluation) -> list[GallerySlice]:
    """Choose the largest gains and losses of the headline's models, and some of all others."""
    config, dsc = evaluate_config(run), found.further.exam_dsc
    pair = found.further.compared
    gains = dsc[pair[0]] - dsc[pair[1]] if pair else np.full(len(found.exam_keys), np.nan)
    scores = found.predicted[found.names[-1]].scores
    chosen = shown_exams(found.exams.labels, scores, gains, count=config.gallery)
    wanted = {
        found.exam_keys[one.exam]: found.shown_slices[found.exam_keys[one.exam]] for one in chosen
    }
    shown: dict[str, GallerySlice] = {}
    for selection in select(run, config.test):
        shown |= _of_selection(run, found, selection, wanted)
    return [
        replace(shown[found.exam_keys[one.exam]], caption=_caption(found, one))
        for one in chosen
        if found.exam_keys[one.exam] in shown
    ]


def _caption(found: Evaluation, shown: ShownExam) -> str:
    """Say why an exam is shown, with its DSC by the models of the headline."""
    pair, dsc = found.further.compared, found.further.exam_dsc
    words = {
        "gain": "one of the largest gains",
        "loss": "one of the largest losses",
        "bleed": "bleed",
        "no bleed": "no bleed, scored among the highest",
    }
    if pair is None or np.isnan(dsc[pair[0]][shown.exam]):
        return words[shown.why].capitalize()
    first, second = (f"{dsc[name][shown.exam]:.2f} ({TITLES.get(name, name)})" for name in pair)
    return f"{words[shown.why].capitalize()}: DSC of the exam {first}, {second}"


def _of_selection(
    run: Session, found: Evaluation, selection: Selection, wanted: Mapping[str, str]
) -> dict[str, GallerySlice]:
    rows = {
        name: _prediction_rows(run, selection, model, set(wanted.values()))
        for name, model in evaluate_config(run).models.items()
    }
    index = index_table(run.store, selection.corpus)
    here = index.filter(pa.compute.is_in(index["slice"], pa.array(list(wanted.values()))))
    patients = set(here["patient"].to_pylist())
    shown = {}
    for url in sorted(set(here["file"].to_pylist())):
        for exam in read_exams(run.store, url, splits=patients.__contains__):
            for item in exam:
                if wanted.get(item.exam) == item.key and item.mask is not None:
                    shown[item.exam] = _gallery_slice(run, found, item, rows)
    return shown


def _prediction_rows(
    run: Session, selection: Selection, model: str, keys: set[str]
) -> dict[str, Mapping[str, Any]]:
    task = prediction_task(run, trained_model(run, model), selection)
    table = open_table(run.store, task.url)
    assert table is not None, task.url
    rows = read_rows(run.store, table)
    chosen = rows.filter(pa.compute.is_in(rows["slice"], pa.array(sorted(keys))))
    return {row["slice"]: row for row in chosen.to_pylist()}


def _gallery_slice(
    run: Session,
    found: Evaluation,
    item: Slice,
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> GallerySlice:
    height, width = item.stored.shape
    masks = {}
    for name, of_slice in rows.items():
        logits = decode_map(of_slice[item.key])
        full = upsample(logits, rows=height, columns=width, size=run.settings.input.size)
        masks[name] = quantise_logits(full) >= found.predicted[name].level
    low, high = BRAIN_WINDOW
    brain = np.clip((hounsfield(item) - low) / (high - low), 0, 1)
    reference = reference_of(item)
    return GallerySlice(
        exam=item.exam,
        slice=item.key,
        image=np.rint(brain * 255).astype(np.uint8),
        reference=reference,
        predictions=masks,
        p={name: float(of_slice[item.key]["p"]) for name, of_slice in rows.items()},
        caption="",
    )
