"""The predictions of this store's models on selections of its corpora, counted exam by exam."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray.data

from ich_ray.annotations import Read
from ich_ray.capacity import Need, Process
from ich_ray.config import EvaluateConfig
from ich_ray.distributed import records
from ich_ray.distributed.estimates import Planned
from ich_ray.distributed.gathering import Gathered, Told
from ich_ray.distributed.lineage import (
    TrainedModel,
    deciding_predictions,
    known_to,
    refuse_shared_patients,
    trained_model,
)
from ich_ray.distributed.metering import metered, reserved_by, tasks_at_once
from ich_ray.distributed.origin import here
from ich_ray.distributed.part_statistics import StatisticsOfPart
from ich_ray.distributed.predict import planned_work, pool_need, predict_all, prediction_task
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import options
from ich_ray.distributed.session import Selection, Session, select
from ich_ray.errors import ConfigError
from ich_ray.statistics.breakdown import Group
from ich_ray.statistics.counted_model import CountedModel
from ich_ray.statistics.exam_statistics import Counting
from ich_ray.statistics.pooled_exams import THRESHOLD, ComparedExams
from ich_ray.statistics.reader_groups import reader_groups
from ich_ray.storage.annotations_table import reads_of, reads_version
from ich_ray.storage.tables import open_table
from ich_ray.windows import preprocessing_id

READER = Process(memory=1_200_000_000)
"""Measured: 0.5 GB at exams of 20 slices of 256 x 256; the rest is for one of a few hundred."""

READING = Need(what="the statistics of an evaluation", each=READER, pool=False)


def evaluate_config(run: Session) -> EvaluateConfig:
    """Return the evaluate section.

    Raises:
        ConfigError: There is none.
    """
    if run.settings.evaluate is None:
        raise ConfigError("the settings have no [evaluate] section; add models and test to it")
    return run.settings.evaluate


def counting_of(config: EvaluateConfig) -> Counting:
    """Return what is counted of test exams."""
    return Counting(lesion_voxels=config.lesion_voxels, single_slices=config.paper)


@dataclass(frozen=True, slots=True)
class OwnExams:
    """What is compared, opened: models, selections, and how their predictions are counted."""

    run: Session
    models: Mapping[str, TrainedModel]
    """Name in the report -> model."""

    test: tuple[Selection, ...]
    tuning: tuple[Selection, ...]

    @classmethod
    def of(cls, run: Session) -> "OwnExams":
        """Open what the evaluate section names.

        Raises:
            ConfigError: Something of it does not exist.
        """
        config = evaluate_config(run)
        models = {name: trained_model(run, model) for name, model in config.models.items()}
        return cls(run, models, select(run, config.test), select(run, config.tuning))

    @property
    def names(self) -> tuple[str, ...]:
        """Of what is compared."""
        return tuple(self.models)

    @property
    def rivals(self) -> tuple[str, ...]:
        """Counted beside the models."""
        return (THRESHOLD,)

    @property
    def where(self) -> str:
        """The exams come from, for a message."""
        return f"the test selections {[one.corpus.name for one in self.test]} (evaluate.test)"

    @property
    def tuned_on(self) -> tuple[str, ...]:
        """What fixes thresholds."""
        return evaluate_config(self.run).tuning

    def notes(self) -> list[str]:
        """Return nothing: every exam with a reference is predicted."""
        return []

    def plan(self) -> dict[str, Any]:
        """Return what a dry run says of it."""
        return {
            "models": {name: model.identity for name, model in self.models.items()},
            "test_slices_at_most": sum(one.corpus.num_rows for one in self.test),
        }

    def identity(self) -> dict[str, Any]:
        """Return what decides its figures."""
        return {
            "models": {name: model.identity for name, model in self.models.items()},
            "order": list(self.models),
            "reads": {
                one.corpus.name: reads_version(self.run.store, one.corpus.name) for one in self.test
            },
            "test": [one.identity for one in self.test],
            "tuning": [one.identity for one in self.tuning],
            "preprocessing": preprocessing_id(self.run.settings.input),
            "predictions": deciding_predictions(self.run.settings.predict),
        }

    def planned(self) -> list[Planned]:
        """Return what it would take, predictions that are made already left out."""
        run, selections = self.run, (*self.test, *self.tuning)
        tasks = [prediction_task(run, m, s) for m in self.models.values() for s in selections]
        slices = sum(one.corpus.num_rows for one in selections)
        return [
            *planned_work(run, tasks),
            Planned(
                kind=_kind(run),
                units=slices * len(self.models),
                setting="budget.statistics_seconds_per_1000_slices",
                seconds=run.settings.budget.statistics_seconds_per_1000_slices / 1000,
                each=reserved_by(READER, processes=1),
            ),
        ]

    def check(self) -> None:
        """Refuse it before anything is written.

        Raises:
            QualityError: A test patient is among those that a model has learned from, or was
                chosen by.
        """
        run, config = self.run, evaluate_config(self.run)
        known = {k: v for m in run.settings.models for k, v in known_to(run.settings, m).items()}
        # What fixes a threshold must not be what judges it.
        known["evaluate.tuning"] = config.tuning
        refuse_shared_patients(run, known, "evaluate.test", config.test)

    def needs(self) -> tuple[Need, ...]:
        """Return what must fit the cluster."""
        return pool_need(self.run.settings.predict), READING

    def predict(self) -> None:
        """Make the predictions that are not there."""
        for model in self.models.values():
            records.read("model", model.url, model.identity)
        selections = (*self.test, *self.tuning)
        tasks = [prediction_task(self.run, m, s) for m in self.models.values() for s in selections]
        predict_all(self.run, tasks)

    def of_tuning(self) -> dict[str, CountedModel]:
        """Return what each model says of the tuning exams."""
        return self._counted(self.tuning, Counting(), {}, None).models

    def of_test(
        self, levels: Mapping[str, int], place: str | None, *, masks: bool = True
    ) -> Gathered:
        """Return what each model, and the rival, says of the test exams.

        Args:
            levels: Model -> its pixel threshold.
            place: Folder for pixels by patient. None: only scores and calls are needed.
            masks: Whether lesions, surfaces and volumes are needed, where pixels are.
        """
        looked_at = masks and place is not None
        wanted = replace(counting_of(evaluate_config(self.run)), masks=looked_at)
        return self._counted(self.test, wanted, levels, place)

    def groups(self, seen: ComparedExams) -> list[Group]:
        """Return the groups of test exams that their readers make."""
        reads: dict[str, list[Read]] = {}
        for one in self.test:
            reads |= reads_of(self.run.store, one.corpus.name)
        return reader_groups(reads, seen.keys, seen.exams.labels)

    def _counted(
        self,
        selections: Sequence[Selection],
        counting: Counting,
        levels: Mapping[str, int],
        place: str | None,
    ) -> Gathered:
        found = Gathered.of((*self.names, *self.rivals))
        for number, selection in enumerate(selections):
            job = self._job(selection, number, counting, levels, place)
            for one in self._of_selection(selection, job):
                found.take(one)
        return found

    def _job(
        self,
        selection: Selection,
        number: int,
        counting: Counting,
        levels: Mapping[str, int],
        place: str | None,
    ) -> StatisticsOfPart:
        run = self.run
        return StatisticsOfPart(
            store=run.store,
            selection=selection,
            number=number,
            predictions={
                name: prediction_files(run, model, selection) for name, model in self.models.items()
            },
            levels=dict(levels),
            counting=counting,
            grid=run.settings.input.size,
            threshold=bool(levels),
            score_slices=evaluate_config(run).exam_score_slices,
            place=place,
            origin=here().of("evaluate"),
        )

    def _of_selection(self, selection: Selection, job: StatisticsOfPart) -> Iterator[Told]:
        """Count the exams of a selection on the cluster, from predictions by URL."""
        run = self.run
        urls = [{"url": url} for url in selection.corpus.files]
        statistics = ray.data.from_items(urls, override_num_blocks=len(urls)).map_batches(
            job, batch_size=1, batch_format="numpy", **options(READER)
        )
        read: set[str] = set()
        at_once = tasks_at_once(len(urls))
        with (
            bar(f"compare on {selection.corpus.name}", total=len(urls), unit="part") as shown,
            metered(run, _kind(run), READER, processes=at_once) as meter,
        ):
            for row in records.rows("statistics", statistics):
                yield row["found"]
                read.add(row["of"])
                shown.update(len(read) - shown.n)
                meter.finished(0)
            # Parts without a reference have no rows.
            shown.update(len(urls) - shown.n)
            meter.finished(selection.corpus.num_rows * len(self.models), more=False)


def prediction_files(run: Session, model: TrainedModel, selection: Selection) -> tuple[str, ...]:
    """Return the files of a model's predictions, which are made, of a selection."""
    table = open_table(run.store, prediction_task(run, model, selection).url)
    assert table is not None, selection.corpus.name
    return table.files


def _kind(run: Session) -> str:
    return f"statistics {run.settings.input.size}"
