"""On what a study was made anew: the public rebuild of the paper's corpora, phantoms, or others."""

from collections.abc import Iterable, Mapping

from ich_ray.config import CorpusConfig, Settings
from ich_ray.experiment import experiment_of

PAPER = (
    "The paper's labelled corpus (Atlantis, 457 exams) and its masks of 23 exams of CQ500 are "
    "private: no run outside of its authors' group has them."
)


def data_of(settings: Settings) -> str:
    """Say on what the tables are made, and what follows for the comparison.

    Args:
        settings: With an experiment, an evaluation and their corpora.
    """
    used = _used(settings)
    folders = {one.folder for one in settings.phantoms.values()}
    phantoms = [name for name, corpus in used.items() if corpus.source in folders]
    if len(phantoms) == len(used):
        return (
            f"Made on synthetic heads ({', '.join(phantoms)}): these tables show that the study "
            "can be made anew from end to end. They say nothing of patients, and their distance "
            "to the printed figures has no meaning."
        )
    told = ", ".join(f"{name} ({corpus.layout})" for name, corpus in used.items())
    mixed = f" Of them {', '.join(phantoms)} are synthetic." if phantoms else ""
    return f"Made on {told}.{mixed} {PAPER}"


def _used(settings: Settings) -> Mapping[str, CorpusConfig]:
    """Return the corpora that the study learns from, or is judged on."""
    experiment, evaluate = experiment_of(settings), settings.evaluate
    assert evaluate is not None
    teacher, pool = settings.models[experiment.teacher], settings.pseudo_labels[experiment.pool]
    named: Iterable[str] = (
        *teacher.labelled,
        *pool.unlabelled,
        *evaluate.tuning,
        *evaluate.test,
        *(settings.reproduce.validation if settings.reproduce else ()),
        *(settings.reproduce.segmentations if settings.reproduce else ()),
    )
    corpora = dict.fromkeys(selection.partition(":")[0] for selection in named)
    return {name: settings.corpora[name] for name in corpora}
