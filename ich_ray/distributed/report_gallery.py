"""Which slices of the test exams the report shows, and what each model marks on them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import ray.data

from ich_ray.distributed import origin, records
from ich_ray.distributed.evaluate import Evaluation
from ich_ray.distributed.gallery_of_part import GalleryOfPart
from ich_ray.distributed.lineage import trained_model
from ich_ray.distributed.metering import metered, tasks_at_once
from ich_ray.distributed.own_exams import READER, evaluate_config, prediction_files
from ich_ray.distributed.resources import options
from ich_ray.distributed.session import Selection, Session, select
from ich_ray.reporting.contents import TITLES, GallerySlice
from ich_ray.statistics.shown_exams import ShownExam, shown_exams
from ich_ray.storage.corpus import index_table


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
    first, second = (f"{dsc[name][shown.exam]:.2f} by {TITLES.get(name, name)}" for name in pair)
    return f"{words[shown.why].capitalize()}: DSC of the exam {first}, {second}"


def _of_selection(
    run: Session, found: Evaluation, selection: Selection, wanted: Mapping[str, str]
) -> dict[str, GallerySlice]:
    """Make the shown exams of a selection on the cluster: the driver gets them and no others."""
    index = index_table(run.store, selection.corpus).select(["slice", "patient", "file"])
    here = index.filter(
        pa.compute.is_in(index["slice"], pa.array(list(wanted.values()), pa.string()))
    )
    if not here.num_rows:
        return {}
    models = {name: trained_model(run, of) for name, of in evaluate_config(run).models.items()}
    job = GalleryOfPart(
        store=run.store,
        corpus=selection.corpus.name,
        predictions={n: prediction_files(run, model, selection) for n, model in models.items()},
        levels={name: found.predicted[name].level for name in models},
        shown=dict(wanted),
        patients=frozenset(here["patient"].to_pylist()),
        slices=evaluate_config(run).gallery_slices,
        grid=run.settings.input.size,
        origin=origin.here().of("evaluate"),
    )
    urls = [{"url": url} for url in sorted(set(here["file"].to_pylist()))]
    shown = ray.data.from_items(urls, override_num_blocks=len(urls)).map_batches(
        job, batch_size=1, batch_format="numpy", **options(READER)
    )
    with metered(run, "gallery", READER, processes=tasks_at_once(len(urls))) as meter:
        made = {row["shown"].exam: row["shown"] for row in records.rows("gallery", shown)}
        meter.finished(len(made), more=False)
    return made
