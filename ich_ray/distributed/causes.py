"""What a person can act on in what Ray raises."""

from ich_ray.errors import IchRayError, SurroundingsError, first_line


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
        return error
    return SurroundingsError(
        f"the cluster failed ({first_line(error)}); run the same command again, "
        "it goes on with what is missing"
    )
