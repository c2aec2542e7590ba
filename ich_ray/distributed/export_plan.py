"""What an export is of: which exams, by which predictions, and where it may write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from ich_ray.distributed import records
from ich_ray.distributed.lineage import trained_model
from ich_ray.distributed.part_predictor import PredictionTask
from ich_ray.distributed.predict import prediction_task
from ich_ray.distributed.session import Selection, Session, select
from ich_ray.distributed.show import find_exam
from ich_ray.errors import ConfigError
from ich_ray.storage.corpus import Corpus, index_table
from ich_ray.storage.dicom_seg import Author
from ich_ray.storage.tables import open_table
from ich_ray.storage.urls import absolute, join

LAYOUTS = ("folder", "cq500")
"""Those whose objects are DICOM, with UIDs that a segmentation can refer to: RSNA's have none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportPlan:
    """Which exams are exported, and what predicts them."""

    author: Author
    corpus: Corpus
    exams: Mapping[str, frozenset[str]]
    """Part of the corpus -> its exams that are exported."""

    tasks: Mapping[str, PredictionTask]
    """Part of the corpus -> what predicts it."""

    folder: str

    @property
    def num_exams(self) -> int:
        """All of them."""
        return sum(map(len, self.exams.values()))


def planned_export(run: Session, name: str, prefixes: Sequence[str]) -> ExportPlan:
    """Return what an export is of; touches nothing.

    Args:
        run: Its settings say which model, and where to write.
        name: Of the corpus.
        prefixes: Pseudonyms of exams, or their first characters; none for all exams.

    Raises:
        ConfigError: The corpus is no DICOM, the model is not trained, an exam is not there, or the
            folder lies where the system reads.
    """
    config = run.settings.export
    folder = _checked_folder(run, name)
    _check_layout(run, name)
    if config.model not in run.settings.models:
        known = ", ".join(run.settings.models) or "none"
        raise ConfigError(f"export.model names {config.model!r}; known: {known}")
    (selection,) = select(run, [name])
    _check_averages(selection.corpus)
    index = index_table(run.store, selection.corpus).select(["exam", "file"])
    chosen = {find_exam(index, name, prefix)["exam"] for prefix in prefixes}
    exams: dict[str, set[str]] = {}
    for row in index.group_by(["file", "exam"]).aggregate([]).sort_by("file").to_pylist():
        if not prefixes or row["exam"] in chosen:
            exams.setdefault(row["file"], set()).add(row["exam"])
    model = trained_model(run, config.model)
    records.read("model", model.url, model.identity)
    whole = prediction_task(run, model, selection)
    tasks = dict.fromkeys(exams, whole)
    if prefixes and open_table(run.store, whole.url) is None:
        # A few exams are not worth predicting a corpus, and a part stays what it is as that grows.
        tasks = {
            file: prediction_task(run, model, _part_of(selection, index, file)) for file in exams
        }
    return ExportPlan(
        author=Author(name=config.model, identity=model.identity, threshold=config.threshold),
        corpus=selection.corpus,
        exams={file: frozenset(found) for file, found in exams.items()},
        tasks=tasks,
        folder=folder,
    )


def _part_of(selection: Selection, index: pa.Table, file: str) -> Selection:
    """Return the selection of one part of a corpus."""
    rows = pa.compute.sum(pa.compute.equal(index["file"], file)).as_py()
    table = replace(selection.corpus.table, files=(file,), rows=rows)
    return replace(selection, corpus=replace(selection.corpus, table=table))


def _check_layout(run: Session, name: str) -> None:
    layout = run.settings.corpora[name].layout
    if layout not in LAYOUTS:
        raise ConfigError(
            f"corpora.{name}.layout is {layout}: its source holds no DICOM objects that a "
            f"segmentation can refer to; export reads the layouts {', '.join(LAYOUTS)}"
        )


def _check_averages(corpus: Corpus) -> None:
    averaged = float(corpus.properties.get("average_to_mm", "0"))
    if averaged:
        raise ConfigError(
            f"corpus {corpus.name} holds averages of {averaged:g} mm, which are no objects of its "
            "source; ingest the source under another name without average_to_mm, and export that"
        )


def _checked_folder(run: Session, name: str) -> str:
    """Return the folder of a corpus's exams, if nothing of ours reads or keeps what lies there."""
    folder = join(absolute(run.settings.export.folder), name)
    ours = {"store.root": run.store.url()}
    for corpus, config in run.settings.corpora.items():
        ours[f"corpora.{corpus}.source"] = config.source
    for setting, place in ours.items():
        if f"{folder}/".startswith(f"{absolute(place)}/"):
            raise ConfigError(
                f"export.folder would write within {setting}: segmentations name patients, and an "
                "ingest would read them as masks; choose a folder outside"
            )
    return folder
