"""One log format over all hosts: Ray's JSON encoder, with whose work a line is about.

Every line has `time` (UTC), `levelname`, `logger`, `message`, `stage`, `section` and `run`, and,
once there is a cluster, `job_id`, `node_id` and `worker_id`; in workers also the task's name.
"""

import logging
import os
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from ich_ray.config_log import LogConfig
from ich_ray.distributed.origin import Origin, enter, here
from ich_ray.errors import IchRayError

OURS = "ich_ray"
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets it for the entrypoint of a job that was submitted to a cluster."""


class _Stderr(logging.StreamHandler[Any]):
    """Writes to what standard error is at that moment."""

    @property
    def stream(self) -> Any:
        """Where the next line goes."""
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Take no other."""


class _Stamp(logging.Filter):
    """Gives a record its time, its logger and whose work it is about, and takes texts of others."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        origin = here()
        record.time, record.logger = utc(record.created), record.name
        record.stage, record.section, record.run = origin.stage, origin.section, origin.run
        if record.exc_info and record.exc_info[1] is not None:
            # Formatters take this text instead of making their own.
            record.exc_text = without_texts(record.exc_info[1])
        return True


class _State:
    """What this process's logging is set to."""

    config = LogConfig()
    json = False
    crashed = sys.excepthook
    """What told of a bug before."""


def wants_json(config: LogConfig) -> bool:
    """Tell whether a driver with these settings logs JSON."""
    return config.format == "json" or (config.format == "auto" and JOB_VARIABLE in os.environ)


def writes_json() -> bool:
    """Tell whether this driver logs JSON."""
    return _State.json


def progress_every_s() -> float:
    """Return the seconds between two lines of progress."""
    return _State.config.progress_every_s


def configure(config: LogConfig) -> None:
    """Say how this process, a driver, logs; a second call replaces the first."""
    _State.config, _State.json = config, wants_json(config)
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _Stderr) or _is_rays(h)]:
        root.removeHandler(old)
    handler: logging.Handler
    if _State.json:
        handler = _json_handler()
        if sys.excepthook is not _crashed:
            _State.crashed, sys.excepthook = sys.excepthook, _crashed
    else:
        if sys.excepthook is _crashed:
            sys.excepthook = _State.crashed
        handler = _Stderr()
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        handler.addFilter(_Stamp())
    root.addHandler(handler)
    logging.captureWarnings(_State.json)
    _tell_our_own()


def for_ray() -> dict[str, Any]:
    """Return what `ray.init` needs to give Ray's own lines the same format, in every process."""
    if not _State.json:
        return {}
    import ray
    from ray.job_config import JobConfig

    adopt_ray()
    # Not `logging_config=`: that gives this process a second handler, beside ours. Nor
    # RAY_DATA_LOG_ENCODING for Ray Data's own debug file: in 2.60 its second use is a ValueError.
    job = JobConfig()
    job.set_py_logging_config(ray.LoggingConfig(encoding="JSON", log_level="WARNING"))
    return {"job_config": job}


def adopt_ray() -> None:
    """Let Ray's own lines of this driver pass through ours: its libraries bring their handlers."""
    if not _State.json:
        return
    for name in ("ray", "ray.data", "ray.train"):
        logger = logging.getLogger(name)
        for handler in logger.handlers[:]:
            if isinstance(handler, logging.StreamHandler) and not isinstance(
                handler, logging.FileHandler
            ):
                logger.removeHandler(handler)
        logger.propagate = True
    logging.getLogger("ray").setLevel(logging.WARNING)


def in_worker(origin: Origin) -> None:
    """Do the work of a run in this process, a worker, and log as its driver asked."""
    enter(origin)
    if origin.log == "text":
        return
    logger, root = logging.getLogger(OURS), logging.getLogger()
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        handler = _json_handler()
        logger.addHandler(handler)
        # Ray Train gives the root logger of its workers a handler that writes plain text.
        logger.propagate = False
        for other in filter(_is_rays, root.handlers):
            other.addFilter(_Stamp())
        if not root.handlers:
            root.addHandler(handler)
    _tell_our_own()


def tell(error: IchRayError) -> None:
    """Write what ended the run, for a person or for whoever collects lines."""
    if _State.json:
        logging.getLogger(OURS).error(str(error), extra={"exit_code": error.exit_code})
    else:
        sys.stderr.write(f"ich-ray: {error}\n")


def utc(seconds: float) -> str:
    """Return a time as lines show it.

    >>> utc(0.25)
    '1970-01-01T00:00:00.250Z'
    """
    shown = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return shown.replace("+00:00", "Z")


def without_texts(error: BaseException) -> str:
    """Return where an error came from, without what it says: that may quote names of files.

    Ours are told whole: they hold pseudonyms only.
    """
    lines = []
    seen: BaseException | None = error
    while seen is not None:
        kind = type(seen)
        says = f": {seen}" if kind.__module__ == IchRayError.__module__ else ""
        lines.append(f"{kind.__module__}.{kind.__qualname__}{says}")
        lines += [
            f"  {Path(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(seen.__traceback__)
        ]
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "\n".join(lines)


def _json_handler() -> logging.Handler:
    # Ray is loaded here: a driver that writes text and finds nothing to do needs none.
    from ray._common.filters import CoreContextFilter
    from ray._common.formatters import JSONFormatter

    handler, formatter = _Stderr(), JSONFormatter()
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(CoreContextFilter())
    handler.addFilter(_Stamp())
    return handler


def _is_rays(handler: logging.Handler) -> bool:
    return type(handler.formatter).__module__ == "ray._common.formatters"


def _tell_our_own() -> None:
    if logging.getLogger(OURS).level == logging.NOTSET:
        logging.getLogger(OURS).setLevel(logging.INFO)


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(OURS).critical("a bug ended the run", exc_info=(kind, error, trace))
