"""What a person can act on in what Ray raises."""

from importlib.util import find_spec

from ich_ray.errors import ConfigError, IchRayError, SurroundingsError, first_line


def cause_of(error: BaseException) -> BaseException:
    """Find what a person can act on in an error of Ray's; a bug in a task stays as it is."""
    import ray.exceptions

    seen: BaseException | None = error
    while seen is not None:
        # Ray's own wrapper is a subclass of what it wraps: look inside it first.
        if isinstance(seen, IchRayError) and not isinstance(seen, ray.exceptions.RayError):
            return seen
        inner = getattr(seen, "cause", None)
        seen = inner if isinstance(inner, BaseException) else seen.__cause__
    if isinstance(error, ray.exceptions.RayTaskError):
        lacking = _lacking(error)
        return error if lacking is None else ConfigError(lacking)
    return SurroundingsError(
        f"the cluster failed ({first_line(error)}); run the same command again, "
        "it goes on with what is missing"
    )


def _lacking(error: BaseException) -> str | None:
    """Say which package a worker's node lacks that is installed here; None if that is not it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ModuleNotFoundError) and seen.name:
            package = seen.name.partition(".")[0]
            if find_spec(package) is None:
                return None
            return (
                f"a node of the cluster lacks the package {package}, which the driver has; run the "
                "image of cluster/Dockerfile on every node, or install constraints.txt there "
                '(submit.dependencies = "lock" does so for a job)'
            )
        inner = getattr(seen, "cause", None)
        seen = inner if isinstance(inner, BaseException) else seen.__cause__
    return None
