"""What the report says of its data: the part that each corpus played."""

from ich_ray.distributed.own_exams import evaluate_config
from ich_ray.distributed.session import Selection, Session, select
from ich_ray.reporting.contents import CorpusFacts
from ich_ray.storage.corpus import index_table


def corpora(run: Session) -> list[CorpusFacts]:
    """Describe every selection that a compared model learned from or was tested on."""
    config = evaluate_config(run)
    used = [run.settings.models[model] for model in config.models.values()]
    roles: dict[str, tuple[str, ...]] = {
        "labelled": tuple(dict.fromkeys(name for model in used for name in model.labelled)),
        "unlabelled": tuple(
            dict.fromkeys(
                name
                for model in used
                for pool in model.pseudo_labelled
                for name in run.settings.pseudo_labels[pool].unlabelled
            )
        ),
        "tuning": config.tuning,
        "test": config.test,
    }
    return [
        _facts(run, selection, name, role)
        for role, names in roles.items()
        for name, selection in zip(names, select(run, names), strict=True)
    ]


def _facts(run: Session, selection: Selection, name: str, role: str) -> CorpusFacts:
    index = index_table(run.store, selection.corpus).select(["patient", "exam", "label"])
    rows = [row for row in index.to_pylist() if selection.holds(row["patient"])]
    hidden = role == "unlabelled"
    return CorpusFacts(
        name=name,
        role=role,
        exams=len({row["exam"] for row in rows}),
        positive_exams=None if hidden else len({row["exam"] for row in rows if row["label"]}),
        slices=len(rows),
        positive_slices=None if hidden else sum(bool(row["label"]) for row in rows),
        kind=selection.corpus.kind,
        version=selection.corpus.version,
    )
