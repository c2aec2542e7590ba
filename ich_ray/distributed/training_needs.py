"""What training a model reserves of a cluster, and how much work it is."""

from ich_ray.capacity import GB, Need, Process
from ich_ray.config import ModelConfig
from ich_ray.distributed.estimates import Planned
from ich_ray.distributed.metering import reserved_by
from ich_ray.distributed.session import Session


def worker_of(config: ModelConfig) -> Process:
    """Return what one process of the group reserves."""
    return Process(
        gpus=float(config.use_gpu), gpu_kind=config.gpu_kind, memory=int(config.memory_gb * GB)
    )


def workers_need(name: str, config: ModelConfig) -> Need:
    """Return what the group needs of a cluster."""
    return Need(
        what=f"models.{name}.{'min' if config.min_workers else 'num'}_workers",
        processes=config.min_workers or config.num_workers,
        each=worker_of(config),
        advice=f"lower models.{name}.memory_gb",
    )


def planned_work(run: Session, config: ModelConfig) -> Planned:
    """Return what training a model from its first step would take."""
    return Planned(
        kind=kind_of_work(config),
        units=config.steps,
        setting="budget.train_seconds_per_step",
        seconds=run.settings.budget.train_seconds_per_step,
        each=reserved_by(worker_of(config), processes=1),
    )


def kind_of_work(config: ModelConfig) -> str:
    """Name what decides how long a step takes."""
    device = f"gpu {config.gpu_kind}" if config.use_gpu else "cpu"
    how = f"{config.precision}{' compiled' if config.compiled else ''}"
    pseudo = f" and {config.pseudo_crop}" if config.pseudo_crop else ""
    return f"train {config.network} {config.crop}{pseudo} x {config.batch} {how} {device}"
