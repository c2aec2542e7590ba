"""In which order the stages of an experiment come: a value, carried out by a job."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from ich_ray.config import Settings
from ich_ray.errors import ConfigError

Stage = Literal["ingest", "train", "pseudo-label", "evaluate"]


class Step(NamedTuple):
    """One stage on one named section; `evaluate` has no name."""

    stage: Stage
    name: str


def steps_of(settings: Settings) -> list[Step]:
    """Return every step that the experiment needs, each after what it reads.

    Raises:
        ConfigError: A model needs itself.
    """
    steps: list[Step] = [Step("ingest", name) for name in settings.corpora]
    for name in settings.models:
        for step in _model(settings, name, ()):
            if step not in steps:
                steps.append(step)
    if settings.evaluate is not None:
        steps.append(Step("evaluate", ""))
    return steps


def _model(settings: Settings, name: str, above: tuple[str, ...]) -> Iterator[Step]:
    if name in above:
        raise ConfigError(
            f"models need each other in a circle: {' -> '.join([*above, name])}; "
            'give one of them init = "random" or another teacher'
        )
    config = settings.models[name]
    if config.init != "random":
        yield from _model(settings, config.init, (*above, name))
    for pool in config.pseudo_labelled:
        for teacher in settings.pseudo_labels[pool].teachers:
            yield from _model(settings, teacher, (*above, name))
        yield Step("pseudo-label", pool)
    yield Step("train", name)
