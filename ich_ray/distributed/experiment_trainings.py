"""The variants of an experiment over all their seeds and the test patients at once.

The evaluation of each seed has left its predictions in the store. They are counted once more, exams
and pixels alone: nothing is predicted, resampled or drawn.
"""

import json
from collections.abc import Mapping
from typing import Any

from ich_ray.distributed.evaluate import evaluation_identity
from ich_ray.distributed.own_exams import OwnExams
from ich_ray.distributed.pixel_shelving import shelve
from ich_ray.distributed.session import Session, fingerprint
from ich_ray.experiment import section
from ich_ray.reporting.plain_values import plain
from ich_ray.statistics.comparison import Predicted
from ich_ray.statistics.pooled_exams import compared_exams, predicted
from ich_ray.statistics.seeds.pooled import OverTrainings, over_trainings
from ich_ray.statistics.tuning import tune
from ich_ray.storage.pixel_place import place_for_pixels
from ich_ray.storage.urls import join

FILE = "over_trainings.json"


def over_seeds(runs: Mapping[int, Session]) -> dict[str, Any] | None:
    """Return what report.json would hold of all seeds, `over_trainings`; None of one seed.

    It is made once and kept in the store, under the hash of what it is made of.

    Args:
        runs: Seed -> its run, of those that are evaluated.

    Raises:
        BudgetError: The budget is passed.
    """
    if len(runs) < 2:
        return None
    sources = {seed: OwnExams.of(run) for seed, run in runs.items()}
    made_of = {str(seed): evaluation_identity(run, sources[seed]) for seed, run in runs.items()}
    run = next(iter(runs.values()))
    url = join(run.store.url("evaluations", fingerprint(over_seeds=made_of)), FILE)
    if not run.store.exists(url):
        run.ensure_ray()
        with (
            run.writing(url) as lease,
            place_for_pixels(run.store, f"{url}.pixels", lease) as place,
        ):
            found = json.dumps(plain(_pooled(sources, place)), sort_keys=True, allow_nan=False)
            lease.check()
            run.store.write_bytes(url, found.encode())
    kept: dict[str, Any] = json.loads(run.store.read_bytes(url))
    return kept


def _pooled(sources: Mapping[int, OwnExams], place: str) -> OverTrainings:
    models: dict[str, Predicted] = {}
    for seed, source in sources.items():
        tuning = source.of_tuning()
        levels = {arm: tune(tuning[arm], where=source.tuned_on).level for arm in source.names}
        # Lesions and surfaces take the time of an evaluation, and are not asked for.
        own = join(place, str(seed))
        gathered = source.of_test(levels, own, masks=False)
        found = {arm: gathered.models[arm].exams for arm in source.names}
        seen = compared_exams(found[source.names[0]], where=source.where)
        pixels = shelve(source.run, gathered, source.names, seen, own)
        for arm in source.names:
            models[section(arm, seed)] = predicted(found[arm], seen, pixels[arm], level=levels[arm])
    arms = next(iter(sources.values())).names
    trainings = {arm: [section(arm, seed) for seed in sources] for arm in arms}
    return over_trainings(seen.exams, models, trainings)
