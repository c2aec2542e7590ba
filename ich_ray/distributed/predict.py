"""An actor pool around learning.predictor: one predictions part for each part of a corpus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data

from ich_ray.capacity import GB, Need, Process
from ich_ray.config import InputConfig, PredictConfig
from ich_ray.distributed import records, work
from ich_ray.distributed.cache import part_name
from ich_ray.distributed.estimates import Planned
from ich_ray.distributed.inputs import channels_of
from ich_ray.distributed.lineage import TrainedModel
from ich_ray.distributed.metering import metered, reserved_by
from ich_ray.distributed.origin import Origin, here
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import check_fits, options
from ich_ray.distributed.session import Selection, Session, code_revision, fingerprint
from ich_ray.errors import ConfigError
from ich_ray.exam import Slice
from ich_ray.stopwatch import Stopwatch
from ich_ray.storage.checkpoints import load_weights
from ich_ray.storage.corpus import read_exams
from ich_ray.storage.leases import Lease
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import MAP_KIND, PREDICTIONS, encode_map
from ich_ray.storage.tables import Part, Table, commit_once, open_table, part_path, write_part
from ich_ray.storage.urls import join
from ich_ray.windows import preprocessing_id


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionTask:
    """One model on one selection, and where its predictions lie."""

    model: TrainedModel
    selection: Selection
    url: str


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
    place = fingerprint(selection=selection.identity, preprocessing=ours, map=MAP_KIND)
    return PredictionTask(
        model=model,
        selection=selection,
        url=run.store.url("predictions", model.identity, place),
    )


def predict(run: Session, task: PredictionTask) -> Table:
    """Predict every slice of a selection, part by part; finished parts are not done again.

    Raises:
        BudgetError: The budget is passed; the parts that are written are kept.
        ConfigError: The pool does not fit the cluster.
    """
    done = open_table(run.store, task.url)
    if done is not None:
        records.read_table("predictions", done)
        return done
    with run.writing(task.url) as lease:
        # Another run may have finished it while this one waited.
        return open_table(run.store, task.url) or _predict(run, task, lease)


def _predict(run: Session, task: PredictionTask, lease: Lease) -> Table:
    run.ensure_ray()
    check_fits(run.settings.cluster, pool_need(run.settings.predict))
    # Of an actor that cannot start Ray tells no cause: what it would refuse is refused here.
    load_weights(run.store, task.model.url, task.model.record)
    found = {item.key: item.size for item in run.store.listing(task.url)}
    names = {url: part_name(task.selection, url) for url in task.selection.corpus.files}
    missing = [url for url in names if part_path(names[url]) not in found]
    parts = _finished_parts(run.store, task, set(names) - set(missing), names)
    pool = run.settings.predict
    with (
        bar(
            f"predict {task.selection.corpus.name} with {task.model.name}",
            total=len(names),
            unit="part",
            first=len(parts),
        ) as shown,
        metered(
            run,
            kind_of_work(run, task.model),
            actor_of(pool),
            processes=min(pool.actors, len(missing)),
        ) as meter,
    ):
        for row in _pool_over(run, task, missing):
            parts.append(Part(row["path"], row["size"], row["rows"]))
            shown.update(1)
            meter.finished(row["rows"], more=len(parts) < len(names))
    lease.check()
    table = _commit(run, task, parts)
    records.wrote("predictions", table.url, table.version)
    return table


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


def _pool_over(run: Session, task: PredictionTask, urls: list[str]) -> Any:
    """Yield one row a part as the actors finish them."""
    if not urls:
        return []
    pool = run.settings.predict
    dataset = ray.data.from_items(
        [{"url": url} for url in urls], override_num_blocks=len(urls)
    ).map_batches(
        PartPredictor,
        fn_constructor_kwargs={
            "store": run.store,
            "task": task,
            "config": run.settings.input,
            "pool": pool,
            "origin": here().of("predict"),
        },
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=min(pool.actors, len(urls))),
        **options(actor_of(pool)),
    )
    return records.rows("predict", dataset)


class PartPredictor:
    """Predicts the slices of whole parts; loads its network once."""

    def __init__(
        self,
        *,
        store: Store,
        task: PredictionTask,
        config: InputConfig,
        pool: PredictConfig,
        origin: Origin,
    ) -> None:
        # Here and not above: the driver, which starts the pool, has no need of torch.
        import torch

        from ich_ray.learning.predictor import Predictor

        torch.set_num_threads(1)
        self.origin = origin
        record = task.model.record
        weights = load_weights(store, task.model.url, record)
        self.store, self.task, self.config, self.batch = store, task, config, pool.batch
        use_gpu = pool.gpus_per_actor > 0
        self.lacks_gpu = use_gpu and not torch.cuda.is_available()
        self.predictor = Predictor(
            {name: torch.from_numpy(np.array(value)) for name, value in weights.items()},
            network=record["network"],
            in_channels=record["in_channels"],
            crop=record["crop"],
            device="cuda" if use_gpu and not self.lacks_gpu else "cpu",
        )

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Predict the parts that a batch names, and write a predictions part for each.

        Raises:
            ConfigError: The actor reserves a GPU, and torch does not see it.
        """
        if self.lacks_gpu:
            # Not while it starts: of an actor that does not, Ray tells no cause.
            raise ConfigError(
                "an actor of the pool reserves a GPU, and torch sees none on its node: install "
                "torch's CUDA build and NVIDIA's driver there (cluster/Dockerfile has the build), "
                "or set predict.gpus_per_actor=0"
            )
        with work.piece_of(self.origin) as watch:
            parts = [self._part(str(url), watch) for url in batch["url"]]
        return {
            "path": [part.path for part in parts],
            "size": [part.size for part in parts],
            "rows": [part.rows for part in parts],
        }

    def _part(self, url: str, watch: Stopwatch) -> Part:
        rows: list[dict[str, Any]] = []
        sizes = []
        exams = read_exams(self.store, url, splits=self.task.selection.holds, with_truth=False)
        for exam in watch.over(exams):
            rows += self._exam(exam)
            sizes.append(len(exam))
        table = pa.Table.from_pylist(rows, schema=PREDICTIONS)
        name = part_name(self.task.selection, url)
        part = write_part(self.store, self.task.url, name, table, sizes or None)
        work.tell("part predicted", watch, part=name, slices=part.rows, waits=True)
        return part

    def _exam(self, exam: list[Slice]) -> list[dict[str, Any]]:
        inputs = channels_of(exam, self.config)
        rows = []
        for start in range(0, len(exam), self.batch):
            p, maps = self.predictor.predict(inputs[start : start + self.batch])
            for item, score, logits in zip(exam[start:], p, maps, strict=False):
                rows.append(
                    {
                        "exam": item.exam,
                        "slice": item.key,
                        "p": float(score),
                        "map": encode_map(logits),
                        "map_kind": MAP_KIND,
                        "map_rows": logits.shape[0],
                        "map_columns": logits.shape[1],
                        "rows": item.stored.shape[0],
                        "columns": item.stored.shape[1],
                        "model": self.task.model.identity,
                        "preprocessing": str(self.task.model.record["preprocessing"]),
                    }
                )
        return rows


def _finished_parts(
    store: Store, task: PredictionTask, urls: set[str], names: Mapping[str, str]
) -> list[Part]:
    """Find the parts that an earlier, interrupted run has written."""
    import pyarrow.parquet as pq

    parts = []
    for url in sorted(urls):
        path = part_path(names[url])
        full = join(task.url, path)
        with store.open(full) as stream:
            parts.append(Part(path, store.size(full), pq.read_metadata(stream).num_rows))
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
