"""An actor pool around learning.predictor: one predictions part for each part of a corpus."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray.data

from ich_ray.capacity import GB, Need, Process
from ich_ray.config import PredictConfig
from ich_ray.distributed import records
from ich_ray.distributed.cache import part_name
from ich_ray.distributed.compute_environment import KEEP_FREED_MEMORY
from ich_ray.distributed.estimates import Planned
from ich_ray.distributed.lineage import TrainedModel, deciding_predictions
from ich_ray.distributed.metering import metered, reserved_by
from ich_ray.distributed.origin import here
from ich_ray.distributed.part_predictor import PartPredictor, PredictionTask
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import check_fits, options
from ich_ray.distributed.session import Selection, Session, code_revision, fingerprint
from ich_ray.errors import ConfigError
from ich_ray.storage.leases import Lease
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import MAP_KIND, PREDICTIONS
from ich_ray.storage.tables import Part, Table, commit_once, open_table, part_path
from ich_ray.storage.urls import join
from ich_ray.windows import preprocessing_id

if TYPE_CHECKING:
    pass


def prediction_task(run: Session, model: TrainedModel, selection: Selection) -> PredictionTask:
    """Name the predictions of a model on a selection.

    Raises:
        ConfigError: The model was trained on slices that were prepared otherwise.
    """
    ours, theirs = preprocessing_id(run.settings.input), model.record["preprocessing"]
    if ours != theirs:
        raise ConfigError(
            f"model {model.name} was trained with preprocessing {theirs}, and [input] describes "
            f"{ours}; predict with the settings that it was trained with"
        )
    place = fingerprint(
        selection=selection.identity,
        preprocessing=ours,
        map=MAP_KIND,
        **deciding_predictions(run.settings.predict),
    )
    return PredictionTask(
        model=model,
        selection=selection,
        url=run.store.url("predictions", model.identity, place),
    )


def predict(run: Session, task: PredictionTask) -> Table:
    """Predict every slice of a selection; see predict_all."""
    return predict_all(run, [task])[0]


def predict_all(run: Session, tasks: Sequence[PredictionTask]) -> list[Table]:
    """Predict every slice of all selections, part by part; finished parts are not done again.

    One pool does them all, or one for each kind of work: actors take long to start.

    Raises:
        BudgetError: The budget is passed; the parts that are written are kept.
        ConfigError: The pool does not fit the cluster.
    """
    named = {task.url: task for task in tasks}
    tables: dict[str, Table] = {}
    leases: dict[str, Lease] = {}
    with contextlib.ExitStack() as held:
        # In one order: of two runs none waits for what the other holds while that waits for it.
        for url in sorted(named):
            done = open_table(run.store, url)
            if done is None:
                leases[url] = held.enter_context(run.writing(url))
                # Another run may have finished it while this one waited.
                done = open_table(run.store, url)
            if done is not None:
                records.read_table("predictions", done)
                tables[url] = done
        kinds: dict[str, list[tuple[PredictionTask, Lease]]] = {}
        for url in leases.keys() - tables.keys():
            kind = kind_of_work(run, named[url].model)
            kinds.setdefault(kind, []).append((named[url], leases[url]))
        for kind, leased in sorted(kinds.items()):
            tables |= _predict(run, kind, leased)
    return [tables[task.url] for task in tasks]


def _predict(
    run: Session, kind: str, leased: Sequence[tuple[PredictionTask, Lease]]
) -> dict[str, Table]:
    """Predict by one pool, and commit each table when its last part is there."""
    run.ensure_ray()
    check_fits(run.settings.cluster, pool_need(run.settings.predict))
    # By model: an actor holds one network at a time.
    leased = sorted(leased, key=lambda one: (one[0].model.identity, one[0].url))
    tasks = [task for task, _ in leased]
    pool = run.settings.predict
    tables: dict[str, Table] = {}
    parts = [_finished_parts(run.store, task) for task in tasks]
    missing = [
        {"task": number, "url": url}
        for number, (task, known) in enumerate(zip(tasks, parts, strict=True))
        for url in task.selection.corpus.files
        if url not in known
    ]

    def commit(number: int) -> None:
        task, lease = leased[number]
        if len(parts[number]) == len(task.selection.corpus.files):
            lease.check()
            tables[task.url] = _commit(run, task, list(parts[number].values()))
            records.wrote("predictions", task.url, tables[task.url].version)

    with (
        bar(
            f"predict {_names(task.selection.corpus.name for task in tasks)} "
            f"with {_names(task.model.name for task in tasks)}",
            total=sum(len(task.selection.corpus.files) for task in tasks),
            unit="part",
            first=sum(map(len, parts)),
        ) as shown,
        metered(
            run, kind, actor_of(pool), processes=min(pool.actors, max(1, len(missing)))
        ) as meter,
    ):
        for number in range(len(tasks)):
            commit(number)
        for done, row in enumerate(_pool_over(run, tasks, missing), start=1):
            parts[row["task"]][row["url"]] = Part(row["path"], row["size"], row["rows"])
            shown.update(1)
            commit(row["task"])
            meter.finished(row["rows"], more=done < len(missing))
    return tables


def _names(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def actor_of(pool: PredictConfig) -> Process:
    """Return what one actor of the pool reserves."""
    return Process(
        gpus=pool.gpus_per_actor, gpu_kind=pool.gpu_kind, memory=int(pool.memory_gb * GB)
    )


def pool_need(pool: PredictConfig) -> Need:
    """Return what the pool needs of a cluster."""
    return Need(
        what="predict.actors",
        processes=pool.actors,
        each=actor_of(pool),
        advice="lower predict.memory_gb or predict.gpus_per_actor",
    )


def planned_work(run: Session, tasks: Sequence[PredictionTask]) -> list[Planned]:
    """Return what those predictions would take that are not made yet."""
    return [
        Planned(
            kind=kind_of_work(run, task.model),
            units=task.selection.corpus.num_rows,
            setting="budget.predict_seconds_per_1000_slices",
            seconds=run.settings.budget.predict_seconds_per_1000_slices / 1000,
            each=reserved_by(actor_of(run.settings.predict), processes=1),
        )
        for task in tasks
        if open_table(run.store, task.url) is None
    ]


def kind_of_work(run: Session, model: TrainedModel) -> str:
    """Name what decides how long predicting a slice takes."""
    pool = run.settings.predict
    device = f"gpu {pool.gpu_kind}" if pool.gpus_per_actor else "cpu"
    return f"predict {model.record['network']} {run.settings.input.size} {device}"


def _pool_over(
    run: Session, tasks: Sequence[PredictionTask], parts: Sequence[Mapping[str, Any]]
) -> Any:
    """Yield one row a part as the actors finish them; a part is a task's number and a file."""
    if not parts:
        return []
    pool = run.settings.predict
    dataset = ray.data.from_items(list(parts), override_num_blocks=len(parts)).map_batches(
        PartPredictor,
        fn_constructor_kwargs={
            "store": run.store,
            "tasks": tuple(tasks),
            "config": run.settings.input,
            "pool": pool,
            "origin": here().of("predict"),
        },
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(
            size=min(pool.actors, len(parts)),
            max_concurrent_calls_per_actor=pool.parts_at_once,
            # One more is sent ahead, so that no thread waits for the driver.
            max_tasks_in_flight_per_actor=pool.parts_at_once + 1,
            enable_true_multi_threading=True,
        ),
        runtime_env={"env_vars": dict(KEEP_FREED_MEMORY)},
        **options(actor_of(pool)),
    )
    return records.rows("predict", dataset)


def _finished_parts(store: Store, task: PredictionTask) -> dict[str, Part]:
    """Find the parts that an earlier, interrupted run has written, by the file they are of."""
    import pyarrow.parquet as pq

    written = {item.key for item in store.listing(task.url)}
    parts = {}
    for url in sorted(task.selection.corpus.files):
        path = part_path(part_name(task.selection, url))
        if path in written:
            full = join(task.url, path)
            with store.open(full) as stream:
                parts[url] = Part(path, store.size(full), pq.read_metadata(stream).num_rows)
    return parts


def _commit(run: Session, task: PredictionTask, parts: list[Part]) -> Table:
    properties = {
        "stage": "predict",
        "schema_version": "1",
        "model": task.model.identity,
        "preprocessing": str(task.model.record["preprocessing"]),
        "corpus": task.selection.corpus.name,
        "corpus_version": str(task.selection.corpus.version),
        "key_fingerprint": run.pseudonyms.fingerprint,
        "code_revision": code_revision(),
    }
    return commit_once(run.store, task.url, schema=PREDICTIONS, parts=parts, properties=properties)
