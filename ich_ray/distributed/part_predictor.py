"""One actor of the pool that predicts: parts of a corpus to parts of a predictions table."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ich_ray.config import InputConfig, PredictConfig
from ich_ray.distributed import work
from ich_ray.distributed.cache import part_name
from ich_ray.distributed.exam_predictions import predictions_of
from ich_ray.distributed.lineage import TrainedModel
from ich_ray.distributed.origin import Origin
from ich_ray.distributed.session import Selection
from ich_ray.errors import ConfigError
from ich_ray.stopwatch import Busy, Stopwatch
from ich_ray.storage.checkpoints import load_weights
from ich_ray.storage.corpus import read_exams
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import PREDICTIONS
from ich_ray.storage.tables import Part, write_part

if TYPE_CHECKING:
    from ich_ray.learning.predictor import Predictions, Predictor


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionTask:
    """One model on one selection, and where its predictions lie."""

    model: TrainedModel
    selection: Selection
    url: str


class PartPredictor:
    """Predicts the slices of whole parts, several at once: one computes while others read or write.

    What a part's predictions are does not depend on the other parts: batches are filled within it.
    """

    def __init__(
        self,
        *,
        store: Store,
        tasks: Sequence[PredictionTask],
        config: InputConfig,
        pool: PredictConfig,
        origin: Origin,
    ) -> None:
        # Here and not above: the driver, which starts the pool, has no need of torch.
        import torch

        torch.set_num_threads(1)
        self.store, self.tasks, self.config, self.pool = store, tasks, config, pool
        self.origin = origin
        self.use_gpu = pool.gpus_per_actor > 0
        self.lacks_gpu = self.use_gpu and not torch.cuda.is_available()
        self.computing = threading.Lock()
        self.busy = Busy()
        self.loaded: OrderedDict[str, Predictor] = OrderedDict()

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
            parts = [
                self._part(self.tasks[int(task)], str(url), watch)
                for task, url in zip(batch["task"], batch["url"], strict=True)
            ]
        return {
            "task": list(batch["task"]),
            "url": list(batch["url"]),
            "path": [part.path for part in parts],
            "size": [part.size for part in parts],
            "rows": [part.rows for part in parts],
        }

    def _part(self, task: PredictionTask, url: str, watch: Stopwatch) -> Part:
        rows: list[dict[str, Any]] = []
        sizes = []
        with self.busy.call():
            for exam in self._exams(task, url):
                rows += exam
                sizes.append(len(exam))
        table = pa.Table.from_pylist(rows, schema=PREDICTIONS)
        name = part_name(task.selection, url)
        part = write_part(self.store, task.url, name, table, sizes or None)
        spent = self.busy.lap()
        work.tell("part predicted", watch, part=name, slices=part.rows, spent=spent)
        return part

    def _exams(self, task: PredictionTask, url: str) -> Iterator[list[dict[str, Any]]]:
        model = task.model
        of = {"model": model.identity, "preprocessing": str(model.record["preprocessing"])}
        exams = read_exams(self.store, url, splits=task.selection.holds, with_truth=False)

        def predict(inputs: np.ndarray) -> "Predictions":
            return self._predict(model, inputs)

        for rows in predictions_of(exams, predict, self.config, batch=self.pool.batch):
            yield [row | of for row in rows]

    def _predict(self, model: TrainedModel, inputs: np.ndarray) -> "Predictions":
        """Predict a batch, in turn with the other parts' batches."""
        with self.computing:
            predictor = self._of(model)
        images = predictor.stage(inputs)
        with self.computing:
            self.busy.begin()
            logits = predictor.launch(images)
        try:
            return predictor.fetch(logits)
        finally:
            self.busy.end()

    def _of(self, model: TrainedModel) -> "Predictor":
        """Return the network of a model; two are kept, since parts of two may be at work."""
        import torch

        from ich_ray.learning.predictor import predictor_of

        if model.identity not in self.loaded:
            record = model.record
            weights = load_weights(self.store, model.url, record)
            self.loaded[model.identity] = predictor_of(
                {name: torch.from_numpy(np.array(value)) for name, value in weights.items()},
                network=record["network"],
                in_channels=record["in_channels"],
                crop=record["crop"],
                device="cuda" if self.use_gpu else "cpu",
                config=self.pool,
            )
            while len(self.loaded) > 2:
                self.loaded.popitem(last=False)
        self.loaded.move_to_end(model.identity)
        return self.loaded[model.identity]
