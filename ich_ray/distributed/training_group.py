"""The group of processes that trains a model: Ray Train around training_worker, by torch's DDP.

Whoever starts it does without torch, which takes seconds to import: the driver has no use for it,
and Ray Train's controller has one when its workers are there, who import it at the same time.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow.fs
import ray.train
from ray.train import UserCallback
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2.api.config import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from ich_ray.budget import Allowance
from ich_ray.config import InputConfig, ModelConfig
from ich_ray.distributed import logs, metrics
from ich_ray.distributed.compute_environment import training_environment
from ich_ray.distributed.lineage import ModelLineage
from ich_ray.distributed.origin import Origin
from ich_ray.distributed.resources import is_over
from ich_ray.distributed.training_needs import worker_of
from ich_ray.errors import IchRayError, SurroundingsError
from ich_ray.settings import resolved
from ich_ray.storage.objects import Store

_log = logging.getLogger(__name__)
STARTS = 30
"""How often a group may not come up, each time after minutes, before the run gives up."""

COORDINATOR = "AutoscalingCoordinator"
"""Ray's actor that divides a cluster among trainings and datasets, and its namespace."""

RESIZE_S = 30.0
"""Between two looks whether an elastic group can grow; it goes on from its last checkpoint then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """All that a worker needs."""

    config: ModelConfig
    name: str
    model: ModelLineage
    store: Store
    input: InputConfig
    cache: str
    board: Any
    revision: str
    allowance: Allowance
    origin: Origin

    @property
    def shown_settings(self) -> dict[str, Any]:
        """Settings as others may read them: weights that were published are named by their hash."""
        settings: dict[str, Any] = resolved(self.config)
        return settings | {"init_trunk": self.model.trunk.rsplit("/", 1)[-1]}

    @property
    def origin_of_model(self) -> dict[str, Any]:
        """What a checkpoint names as its origin."""
        return {
            "name": self.name,
            "inputs": dict(self.model.inputs),
            "settings": self.shown_settings,
            "code_revision": self.revision,
        }


class _Failures(UserCallback):
    """Counts the worker groups that failed; Ray Train calls it in its controller."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Any]) -> None:
        """Count a failure and name the ranks."""
        logs.in_worker(self.origin)
        metrics.retries("train_workers")
        ranks = {str(rank): type(error).__name__ for rank, error in worker_exceptions.items()}
        _log.warning("workers failed", extra={"ranks": ranks})


class OfLivingJob(WorkerGroupCallback):
    """Keeps the controller of a job that is over from starting another group.

    Ray 2.60 frees a job's placement groups when it ends, and never one that is made after that.
    A controller sees its workers go before it goes itself: what it reserved for new ones, GPUs and
    all, would be held until somebody removed it by hand.
    """

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Raise where the driver has gone."""
        if is_over(ray.get_runtime_context().get_job_id()):
            raise SurroundingsError("the job of this training is over: no other group is started")


@dataclass
class _Torch(BackendConfig):
    """Ray Train's TorchConfig, made where it is used."""

    backend: str
    timeout_s: int

    @property
    def backend_cls(self) -> type[Backend]:
        """What sets the group up."""
        return _TorchBackend

    @property
    def train_func_context(self) -> Any:
        """What a worker trains in."""
        return _in_torch

    def real(self) -> BackendConfig:
        """Return Ray Train's own."""
        from ray.train.torch import TorchConfig

        return TorchConfig(backend=self.backend, timeout_s=self.timeout_s)


class _TorchBackend(Backend):
    """Ray Train's torch backend, imported in the controller while the workers import torch."""

    # As Ray Train's own: workers of a node see each other's GPUs.
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Make the process group."""
        with _given_back(worker_group):
            begun = worker_group.execute_async(_import_torch)
            real = backend_config.real()
            ray.get(begun)
            real.backend_cls().on_start(worker_group, real)

    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        """Pass it on."""
        with _given_back(worker_group):
            real = backend_config.real()
            real.backend_cls().on_training_start(worker_group, real)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """End the process group."""
        real = backend_config.real()
        real.backend_cls().on_shutdown(worker_group, real)


@contextmanager
def _given_back(worker_group: Any) -> Iterator[None]:
    """End the workers of a group that does not come up, and free what they reserve.

    Ray Train 2.60 forgets such a group, whose survivors live on; the next one waits for their room.
    """
    with ExitStack() as undo:
        undo.callback(worker_group.get_worker_group_state().shutdown)
        yield
        undo.pop_all()


def _import_torch() -> None:
    import ich_ray.distributed.training_worker  # noqa: F401


def _in_torch() -> AbstractContextManager[Any]:
    from ray.train.torch import TorchConfig

    context: AbstractContextManager[Any] = TorchConfig().train_func_context()
    return context


def _work(arguments: dict[str, Any]) -> None:
    """Train in one process of the group (Ray Train calls it in each)."""
    from ich_ray.distributed.training_worker import train

    train(arguments["job"])


class _Trainer(DataParallelTrainer):
    """Leaves Ctrl-C to Python, and so to whoever holds leases and the cluster.

    Ray Train 2.60 answers it by an abort that is lost while workers start, and by exit code 0.
    """

    _controller: Any = None

    def _register_sigint_handler(self, controller: Any) -> None:
        self._controller = controller

    def give_up(self) -> None:
        """End the controller before its workers, and take back what it asked of the cluster.

        Else it would start others in their place (OfLivingJob), and Ray Data's would have to leave
        room for them for three minutes more.
        """
        if self._controller is not None:
            # A job that is told to stop has 3 s, and a head that has gone is asked for a minute.
            aside = threading.Thread(target=self._take_back, daemon=True)
            aside.start()
            aside.join(1.5)

    def _take_back(self) -> None:
        with suppress(ValueError, ray.exceptions.RayError):
            ray.kill(self._controller)
            coordinator: Any = ray.get_actor(COORDINATOR, namespace=COORDINATOR)
            asked = coordinator.cancel_request.remote(f"train-{self.train_run_context.run_id}")
            ray.get(asked, timeout=1.0)


def fit(job: TrainingJob) -> dict[str, Any]:
    """Run the group to its end; return what it reported last, nothing before a checkpoint.

    Raises:
        IchRayError: What a worker raised for a person to act on.
        SurroundingsError: Workers died more often than `max_failures`.
    """
    config, filesystem, path = job.config, *_checkpoint_folder(job)
    each = worker_of(config)
    # Of the second kind are Ray Train's own, and those that its comment calls custom workarounds.
    callbacks: list[Any] = [_Failures(job.origin), OfLivingJob()]
    trainer = _Trainer(
        _work,
        train_loop_config={"job": job},
        backend_config=_Torch(backend="nccl" if config.use_gpu else "gloo", timeout_s=600),
        scaling_config=ScalingConfig(
            num_workers=(
                (config.min_workers, config.num_workers)
                if 0 < config.min_workers < config.num_workers
                else config.num_workers
            ),
            use_gpu=config.use_gpu,
            resources_per_worker={
                "CPU": each.cpus,
                "memory": each.memory,
                **({"GPU": each.gpus} if each.gpus else {}),
            },
            accelerator_type=each.gpu_kind or None,
            elastic_resize_monitor_interval_s=RESIZE_S,
        ),
        # The declared type is that of Train V1, which V2 refuses.
        run_config=RunConfig(  # type: ignore[arg-type]
            name=job.model.url.rsplit("/", 1)[1],
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(
                max_failures=config.max_failures, controller_failure_limit=STARTS
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=config.checkpoints_kept),
            callbacks=callbacks,
            worker_runtime_env={"env_vars": training_environment(use_gpu=config.use_gpu)},
        ),
    )
    try:
        return dict(trainer.fit().metrics or {})
    except ray.train.TrainingFailedError as error:
        raise _reason(job, error) from error
    except BaseException:
        # Told to stop, or its lease was lost.
        trainer.give_up()
        raise


def _reason(job: TrainingJob, error: ray.train.TrainingFailedError) -> IchRayError:
    """Say what ended the run: what a worker named, or that workers died."""
    for failure in getattr(error, "worker_failures", {}).values():
        if isinstance(failure, IchRayError):
            return type(failure)(f"model {job.name}: {failure}")
    if isinstance(error, ray.train.ControllerError):
        return SurroundingsError(
            f"model {job.name}: its workers could not be started ({_last_line(error)}); the same "
            "command continues from the last checkpoint"
        )
    return SurroundingsError(
        f"model {job.name}: its workers failed more than max_failures="
        f"{job.config.max_failures} times ({_last_line(error)}); the same command continues "
        "from the last checkpoint"
    )


def _checkpoint_folder(job: TrainingJob) -> tuple[pyarrow.fs.FileSystem | None, str]:
    """Return where Ray Train keeps the checkpoints of the run: beside the model."""
    return job.store.arrow_file_system(job.store.url("checkpoints", job.name))


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]
