"""What sections of the settings check of their fields."""

from ich_ray.errors import ConfigError


def require(fits: bool, message: str) -> None:  # noqa: FBT001  (the check itself)
    """Refuse a section with this message unless it fits."""
    if not fits:
        raise ConfigError(message)


def at_least(least: int, section: object, *names: str) -> None:
    """Refuse a section of which one of these fields is less."""
    for name in names:
        value = getattr(section, name)
        require(value >= least, f"{name} must be at least {least}, got {value}")


def positive_memory(memory_gb: float) -> None:
    """Refuse a process that would reserve no memory."""
    require(memory_gb > 0, f"memory_gb must be above 0, got {memory_gb}")


def shares(section: object, *names: str) -> None:
    """Refuse a section of which one of these fields is no share."""
    for name in names:
        value = getattr(section, name)
        require(0 <= value <= 1, f"{name} must lie in [0, 1], got {value}")
