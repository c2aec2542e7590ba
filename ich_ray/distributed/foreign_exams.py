"""The predictions of any software against a reference, counted exam by exam on the cluster."""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import ray.data

from ich_ray.capacity import Need
from ich_ray.distributed import records, work
from ich_ray.distributed.estimates import Planned
from ich_ray.distributed.gathering import Gathered, Pooling
from ich_ray.distributed.metering import metered, reserved_by, tasks_at_once
from ich_ray.distributed.origin import Origin, here
from ich_ray.distributed.own_exams import READER, READING, counting_of, evaluate_config
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import options
from ich_ray.distributed.session import Session
from ich_ray.errors import QualityError
from ich_ray.foreign_exams import ForeignExam
from ich_ray.identity import content_hash
from ich_ray.scored_volume import ScoredVolume
from ich_ray.statistics.breakdown import Group
from ich_ray.statistics.counted_model import CountedModel
from ich_ray.statistics.exam_statistics import Counting
from ich_ray.statistics.foreign_counts import (
    CaseVolumes,
    ForeignCase,
    cases_of,
    count_case,
    left_out,
    needs_pixels,
    on_one_grid,
)
from ich_ray.statistics.pooled_exams import ComparedExams
from ich_ray.storage.foreign_sources import read_exams
from ich_ray.storage.objects import Store
from ich_ray.storage.scored_maps import read_map
from ich_ray.storage.source import unnamed

PIECES = 256
"""Of the work, so that pools of any size have enough to share."""

AT_ONCE = 16
"""Requests for the state of maps."""

SLICES_OF_A_MAP = 30
"""For an estimate: nobody has read them yet."""

Exams = Mapping[str, ForeignExam]


@dataclass(frozen=True, kw_only=True, slots=True)
class CountCases:
    """Counts some exams; a plain value, called by Ray Data."""

    store: Store
    score_slices: int
    counting: Mapping[str, Counting]
    ignored: int | None
    """Value of masks that takes part in no count."""

    place: str | None
    """Folder for pixels by patient; None: nobody needs them."""

    origin: Origin

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[dict[str, list[Any]]]:
        """Yield one row an exam and model, and their pixels."""
        with work.piece_of(self.origin):
            for number, piece in zip(batch["number"], batch["cases"], strict=True):
                pooling = self._poolings(int(number))
                for case in pickle.loads(piece):
                    found = count_case(
                        case,
                        self._volumes(case),
                        score_slices=self.score_slices,
                        counting=self.counting,
                    )
                    for one in found:
                        for told in pooling[one.statistics.model].take(one):
                            yield {"found": [told]}
                for rest in pooling.values():
                    for told in rest.rest():
                        yield {"found": [told]}

    def _poolings(self, number: int) -> dict[str, Pooling]:
        return {
            name: Pooling(
                model=name, slot=slot, task=f"{number:04d}", store=self.store, place=self.place
            )
            for slot, name in enumerate(self.counting)
        }

    def _volumes(self, case: ForeignCase) -> CaseVolumes:
        """Read what is needed of a case's pixels."""
        truth = self._map(case, case.truth, "the reference")
        said = {n: self._map(case, one, f"predictions {n}") for n, one in case.said.items()}
        read = {name: one for name, one in said.items() if one is not None}
        if truth is not None and truth.automatic:
            raise QualityError(
                f"the reference, {case.truth.where}: its DICOM SEG says that an algorithm alone "
                "has made it (AUTOMATIC): that is a prediction; give the readers' segmentation"
            )
        if truth is None or not case.has_maps:
            return CaseVolumes(truth=truth, said=read)
        try:
            return on_one_grid(truth, read)
        except QualityError as error:
            raise QualityError(f"exam of the reference's {case.truth.where}: {error}") from None

    def _map(self, case: ForeignCase, one: ForeignExam, name: str) -> ScoredVolume | None:
        if not needs_pixels(case, one) or one.map is None:
            return None
        return read_map(self.store, one.map, name=f"{name}, {one.where}", ignored=self.ignored)


@dataclass(frozen=True, slots=True)
class ForeignExams:
    """What is compared, read: predictions and reference, and how they are counted."""

    run: Session
    said: Mapping[str, Exams]
    """Name in the report -> exam -> prediction."""

    truth: Exams
    tuning: Exams
    """Empty where no reference of other exams fixes thresholds."""

    cases: Sequence[ForeignCase] = field(default=())
    tuning_cases: Sequence[ForeignCase] = field(default=())

    @classmethod
    def of(cls, run: Session) -> "ForeignExams":
        """Read the tables and folders that the evaluate section names; maps are only listed.

        Raises:
            ConfigError: Something is wrong in one of them.
            QualityError: They have no exam in common, or test and tuning share a patient.
        """
        config, store = evaluate_config(run), run.store
        said = {
            name: read_exams(store, place, role="predictions", name=f"predictions {name}")
            for name, place in config.predictions.items()
        }
        truth = read_exams(store, config.reference, role="reference", name="the reference")
        tuning: Exams = {}
        if config.tuning_reference:
            tuning = read_exams(
                store, config.tuning_reference, role="reference", name="the tuning reference"
            )
        _refuse_shared(truth, tuning)
        found = cls(run, said, truth, tuning, cases_of(truth, said), cases_of(tuning, said))
        for cases, what in ((found.cases, "the reference"), (found.tuning_cases, "the tuning one")):
            if not cases and (what == "the reference" or tuning):
                raise QualityError(
                    f"no exam of {what} is in all predictions ({', '.join(said)}): are exams named "
                    "alike everywhere? Names are compared as text"
                )
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Of what is compared."""
        return tuple(self.said)

    @property
    def rivals(self) -> tuple[str, ...]:
        """None: there are no images to threshold."""
        return ()

    @property
    def where(self) -> str:
        """The exams come from, for a message."""
        return "the exams of the reference that all predictions hold"

    @property
    def tuned_on(self) -> tuple[str, ...]:
        """What fixes thresholds."""
        return ("the tuning reference",) if self.tuning else ()

    def notes(self) -> list[str]:
        """Return what is left out, and why."""
        return left_out(self.truth, self.said, self.cases, others=len(self.tuning_cases))

    def identity(self) -> dict[str, Any]:
        """Return what decides its figures: what the tables say, and the state of each map."""
        return {
            "order": list(self.said),
            "predictions": {name: _hash_of(exams) for name, exams in self.said.items()},
            "reference": _hash_of(self.truth),
            "tuning": _hash_of(self.tuning),
            "maps": content_hash({"maps": self._map_states()}),
        }

    def origins(self) -> dict[str, str]:
        """Return what its files say, hashed, for a report's provenance."""
        return {
            **{f"predictions {name}": _hash_of(exams) for name, exams in self.said.items()},
            "reference": _hash_of(self.truth),
        }

    def plan(self) -> dict[str, Any]:
        """Return what a dry run says of it."""
        return {"predictions": list(self.said), "exams": len(self.cases), "notes": self.notes()}

    def planned(self) -> list[Planned]:
        """Return what it would take."""
        price = self.run.settings.budget.statistics_seconds_per_1000_slices
        return [
            Planned(
                kind=_KIND,
                units=_slices_about((*self.cases, *self.tuning_cases)),
                setting="budget.statistics_seconds_per_1000_slices",
                seconds=price / 1000 * len(self.said),
                each=reserved_by(READER, processes=1),
            )
        ]

    def check(self) -> None:
        """Nothing more can be wrong: it was read."""

    def needs(self) -> tuple[Need, ...]:
        """Return what must fit the cluster."""
        return (READING,)

    def predict(self) -> None:
        """Nothing is left to predict."""

    def groups(self, seen: ComparedExams) -> list[Group]:
        """Return no groups: nothing is known of exams but their truth."""
        return []

    def of_tuning(self) -> dict[str, CountedModel]:
        """Return what each model says of the tuning exams."""
        counting = dict.fromkeys(self.names, Counting())
        found = self._counted(self.tuning_cases, counting, None, what="count tuning exams")
        return found.models

    def of_test(self, levels: Mapping[str, int], place: str | None) -> Gathered:
        """Return what each model says of the test exams.

        Args:
            levels: Model -> its pixel threshold.
            place: Folder for pixels by patient. None: only scores and calls are needed.
        """
        wanted = replace(counting_of(evaluate_config(self.run)), masks=place is not None)
        counting = {name: replace(wanted, level=levels.get(name)) for name in self.names}
        return self._counted(self.cases, counting, place, what="count exams")

    def _counted(
        self,
        cases: Sequence[ForeignCase],
        counting: Mapping[str, Counting],
        place: str | None,
        *,
        what: str,
    ) -> Gathered:
        found = Gathered.of(self.names)
        if not cases:
            return found
        job = CountCases(
            store=self.run.store,
            score_slices=evaluate_config(self.run).exam_score_slices,
            counting=counting,
            ignored=evaluate_config(self.run).ignored_value or None,
            place=place,
            origin=here().of("evaluate"),
        )
        size = -(-len(cases) // PIECES)
        # Bytes: Ray Data warns of a column of objects that Arrow does not know.
        pieces = [
            {"number": i // size, "cases": pickle.dumps(cases[i : i + size])}
            for i in range(0, len(cases), size)
        ]
        dataset = ray.data.from_items(pieces, override_num_blocks=len(pieces)).map_batches(
            job, batch_size=1, batch_format="numpy", **options(READER)
        )
        at_once = tasks_at_once(len(pieces))
        with (
            bar(what, total=len(cases), unit="exam") as shown,
            metered(self.run, _KIND, READER, processes=at_once) as meter,
        ):
            for row in records.rows("statistics", dataset):
                found.take(row["found"])
                done = min(len(one.exams) for one in found.models.values())
                shown.update(done - shown.n)
                meter.finished(0)
            meter.finished(_slices_about(cases), more=False)
        return found

    def _map_states(self) -> list[list[str]]:
        """Return the state of every map that is read."""
        urls = sorted(
            {
                one.map
                for case in (*self.cases, *self.tuning_cases)
                for one in (case.truth, *case.said.values())
                if needs_pixels(case, one) and one.map is not None
            }
        )
        store = self.run.store

        def state(url: str) -> list[str]:
            with unnamed("a map"):
                found = store.describe(url)
            return [url, "" if found is None else found.etag]

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(state, urls))


_KIND = "statistics foreign"


def _slices_about(cases: Sequence[ForeignCase]) -> int:
    return sum(SLICES_OF_A_MAP if case.has_maps else 1 for case in cases)


def _hash_of(exams: Exams) -> str:
    told = [
        [one.exam, one.patient, one.value, sorted(one.slices.items()), one.map is not None]
        for one in exams.values()
    ]
    return content_hash({"exams": told})


def _refuse_shared(truth: Exams, tuning: Exams) -> None:
    """Refuse exams or patients that would fix what judges them."""
    patients = {one.patient for one in truth.values()}
    shared = [one for one in tuning.values() if one.exam in truth or one.patient in patients]
    if shared:
        raise QualityError(
            f"{len(shared)} of {len(tuning)} exams of the tuning reference are of patients of the "
            f"reference too, the first in its {shared[0].where}: what fixes a threshold must not "
            "be what judges it; take them out of one of the two"
        )
