"""Which finished output a name in the settings means: outputs lie under the hash of their origin.

A model names its corpora, pseudo-labels and starting weights; a pseudo-label table its teacher
and corpora. So a stage that is run again finds its own output, and any change of what went into
it leads to another place: nothing is ever overwritten.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ich_ray.config import ModelConfig, PredictConfig, PseudoLabelConfig, Settings
from ich_ray.distributed.cache import PoolSource
from ich_ray.distributed.session import Selection, Session, fingerprint, select
from ich_ray.errors import ConfigError, QualityError
from ich_ray.settings import resolved
from ich_ray.storage.checkpoints import load_record
from ich_ray.storage.corpus import index_table
from ich_ray.storage.tables import Table, open_table
from ich_ray.windows import preprocessing_id

RECIPE = 1
"""Raised when a setting comes to mean something else, or its default changes."""

NOT_OF_THE_RESULT = (
    "preset",
    "min_workers",
    "use_gpu",
    "gpu_kind",
    "memory_gb",
    "read_ahead",
    "checkpoint_every",
    "checkpoints_kept",
    "stall_s",
    "max_failures",
    "labelled",
    "pseudo_labelled",
    "init",
    "init_trunk",
)
"""Settings of a model that do not decide its weights, or do so through its inputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLineage:
    """What a model is trained from, and where it lies."""

    url: str
    record: dict[str, Any] | None
    """Of the finished model; None until it is trained."""

    sources: tuple[PoolSource, ...]
    pseudo_sources: tuple[PoolSource, ...]
    tuning: tuple[Selection, ...] = ()
    """On which it is measured while it is trained."""

    start_url: str
    """Of the model whose weights it starts from; empty: random, or those of `trunk`."""

    trunk: str = ""
    """Where `keep_trunk` puts published weights for its trunk; empty: none."""

    inputs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoLabelLineage:
    """What pseudo-labels are made from, and where they lie."""

    url: str
    table: Table | None
    """None until they are made."""

    teachers: tuple["TrainedModel", ...]
    selections: tuple[Selection, ...]
    inputs: Mapping[str, Any]

    @property
    def teacher(self) -> str:
        """Identity of the teacher, or of all of them."""
        return "+".join(teacher.identity for teacher in self.teachers)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedModel:
    """A model that exists."""

    name: str
    url: str
    record: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """Hash of its weights."""
        return str(self.record["model"])


def model_lineage(run: Session, name: str) -> ModelLineage:
    """Find what a model is trained from.

    Raises:
        ConfigError: Something that it needs does not exist yet; the message names the command.
    """
    config = run.settings.models[name]
    sources = tuple(
        PoolSource(store=run.store, selection=selection, input=run.settings.input)
        for selection in select(run, config.labelled)
    )
    tables = [finished_pseudo_labels(run, pool) for pool in config.pseudo_labelled]
    pseudo_sources = tuple(
        PoolSource(
            store=run.store,
            selection=selection,
            input=run.settings.input,
            pseudo_labels=labels.url,
        )
        for labels in tables
        for selection in labels.selections
    )
    start = None if config.init == "random" else _start(run, name, config)
    tuning = select(run, config.validation.tuning)
    inputs: dict[str, Any] = {
        "labelled": [source.selection.identity for source in sources],
        "pseudo_labels": [labels.url.rsplit("/", 1)[1] for labels in tables],
        "start": "random" if start is None else start.identity,
        "preprocessing": preprocessing_id(run.settings.input),
    }
    if chosen_by_tuning(config):
        inputs["tuning"] = [selection.identity for selection in tuning]
    trunk = ""
    if config.init_trunk:
        name_of_bytes = hashlib.sha256(published(run, name)).hexdigest()[:16]
        inputs["start"] = f"trunk {name_of_bytes}"
        trunk = run.store.url("published", name_of_bytes)
    url = run.store.url("models", name, fingerprint(settings=_deciding(config), inputs=inputs))
    return ModelLineage(
        url=url,
        record=load_record(run.store, url),
        sources=sources,
        pseudo_sources=pseudo_sources,
        tuning=tuning,
        start_url="" if start is None else start.url,
        trunk=trunk,
        inputs=inputs,
    )


def trained_model(run: Session, name: str) -> TrainedModel:
    """Return a model that has been trained.

    Raises:
        ConfigError: It has not, with these settings and corpora.
    """
    lineage = model_lineage(run, name)
    if lineage.record is None:
        raise ConfigError(
            f"model {name} has not been trained with these settings and corpora; "
            f"run ich-ray train SETTINGS.toml --only {name}"
        )
    return TrainedModel(name=name, url=lineage.url, record=lineage.record)


def pseudo_label_lineage(run: Session, name: str) -> PseudoLabelLineage:
    """Find what pseudo-labels are made from.

    Raises:
        ConfigError: The teacher or a corpus does not exist yet.
    """
    config = run.settings.pseudo_labels[name]
    teachers = tuple(trained_model(run, teacher) for teacher in config.teachers)
    selections = select(run, config.unlabelled)
    prevalence = select(run, config.prevalence_of)
    inputs: dict[str, Any] = {
        "teacher": "+".join(teacher.identity for teacher in teachers),
        "unlabelled": [selection.identity for selection in selections],
        "prevalence_of": [selection.identity for selection in prevalence],
        "preprocessing": preprocessing_id(run.settings.input),
    }
    inference = deciding_predictions(run.settings.predict)
    if inference:
        inputs["predict"] = inference
    ranker = _deciding_labels(config)
    if config.other_teachers:
        # Who has learned from whom is no part of their identities.
        inputs["unseen_by"] = fingerprint(**unseen_by(run, name))
    url = run.store.url("pseudo_labels", name, fingerprint(ranker=ranker, inputs=inputs))
    return PseudoLabelLineage(
        url=url,
        table=open_table(run.store, url),
        teachers=teachers,
        selections=selections,
        inputs=inputs,
    )


def finished_pseudo_labels(run: Session, name: str) -> PseudoLabelLineage:
    """Return pseudo-labels that have been made.

    Raises:
        ConfigError: They have not, with these settings and this teacher.
    """
    lineage = pseudo_label_lineage(run, name)
    if lineage.table is None:
        raise ConfigError(
            f"pseudo-labels {name} do not exist yet for this teacher and these settings; "
            f"run ich-ray pseudo-label SETTINGS.toml --only {name}"
        )
    return lineage


def patients_of(run: Session, selections: tuple[Selection, ...]) -> set[str]:
    """Return the pseudonyms of all patients of some selections."""
    return {
        patient
        for selection in selections
        for patient in index_table(run.store, selection.corpus, ["patient"])["patient"]
        .unique()
        .to_pylist()
        if selection.holds(patient)
    }


def known_to(settings: Settings, name: str) -> dict[str, Sequence[str]]:
    """Return setting -> the selections that a model has learned from, or was chosen by.

    Those of the model that it starts from are among them, and of the teachers of its pseudo-labels.
    """
    config = settings.models[name]
    known: dict[str, Sequence[str]] = {
        f"models.{name}.labelled": config.labelled,
        f"models.{name}.validation.tuning": config.validation.tuning,
    }
    others = [] if config.init == "random" else [config.init]
    for pool in config.pseudo_labelled:
        known[f"pseudo_labels.{pool}.unlabelled"] = settings.pseudo_labels[pool].unlabelled
        others += settings.pseudo_labels[pool].teachers
    for other in others:
        known |= known_to(settings, other)
    return {where: selections for where, selections in known.items() if selections}


def refuse_shared_patients(
    run: Session, known: Mapping[str, Sequence[str]], where: str, names: Sequence[str]
) -> None:
    """No patient on two sides of a comparison.

    Args:
        run: Opens the selections.
        known: Setting -> the selections that it names.
        where: The setting whose patients must be none of theirs.
        names: The selections that it names.

    Raises:
        QualityError: Some are; the message says how many, and where.
    """
    patients = patients_of(run, select(run, names))
    for other, selections in known.items():
        shared = patients & patients_of(run, select(run, selections))
        if shared:
            raise QualityError(
                f"{len(shared)} patients of {other} are also in {where}: "
                "the comparison would be worthless; give them disjoint splits of the corpus"
            )


def _start(run: Session, name: str, config: ModelConfig) -> TrainedModel:
    """Return the model whose weights another one starts from, if they fit it."""
    start = trained_model(run, config.init)
    theirs = start.record["network"], start.record["in_channels"]
    ours = config.network, run.settings.input.num_channels
    if ours != theirs:
        raise ConfigError(
            f"models.{name}.init={config.init} is a {theirs[0]} of {theirs[1]} channels, and "
            f"models.{name} a {ours[0]} of {ours[1]}: its weights do not fit; let networks and "
            "input.channels agree, or set init to random"
        )
    return start


def keep_trunk(run: Session, name: str, model: ModelLineage) -> None:
    """Copy the published weights that a model starts from to where every node reads them."""
    if model.trunk and not run.store.exists(model.trunk):
        run.store.write_bytes(model.trunk, published(run, name))


def published(run: Session, name: str) -> bytes:
    """Return the file of published weights that a model starts from, as this run first read it.

    Raises:
        ConfigError: There is none.
    """
    url = run.settings.models[name].init_trunk
    try:
        if url not in run.files:
            run.files[url] = run.store.read_bytes(url)
        return run.files[url]
    except FileNotFoundError:
        raise ConfigError(
            f"models.{name}.init_trunk={url}: there is no such file; give the path or URL of a "
            "DRN state dict (.pth or .safetensors)"
        ) from None


def _deciding(config: ModelConfig) -> dict[str, Any]:
    """Return the settings that decide weights; a setting that is not used leaves no trace."""
    own = resolved(config)
    plain = resolved(ModelConfig(labelled=config.labelled))
    deciding = {
        key: value
        for key, value in own.items()
        if key not in NOT_OF_THE_RESULT and value != plain[key]
    }
    void = {
        "validation": not chosen_by_tuning(config),
        "momentum": config.optimizer != "sgd",
        "labelled_share": not config.pseudo_labelled,
        "contrast": not config.augment,
    }
    kept = {key: value for key, value in deciding.items() if not void.get(key, False)}
    return {"recipe": RECIPE, **kept}


def deciding_predictions(pool: PredictConfig) -> dict[str, str | bool]:
    """Return the pool's settings that decide predictions, where they are not the plain ones."""
    plain = PredictConfig()
    names = ("inference", "flip", "precision")
    return {n: getattr(pool, n) for n in names if getattr(pool, n) != getattr(plain, n)}


def _deciding_labels(config: PseudoLabelConfig) -> dict[str, Any]:
    """Return the settings that decide pseudo-labels; one that is not used leaves no trace."""
    deciding: dict[str, Any] = {}
    if config.mode != "paper":
        deciding["mode"] = config.mode
    if config.ranked:
        deciding["top_percent"] = config.top_percent
    if config.mode == "ignore_band":
        deciding["band_times"] = config.band_times
    if config.mode not in ("soft", "image_oracle"):
        deciding["positive_above"] = config.positive_above
        deciding["negative_below"] = config.negative_below
    return deciding


def unseen_by(run: Session, name: str) -> dict[str, tuple[int, ...]]:
    """Return exam -> which teachers label it, where not all of them do.

    They are those that never saw its patient. One teacher labels all: there, a patient whom it
    knows is refused before.

    Raises:
        QualityError: All teachers know a patient.
    """
    config = run.settings.pseudo_labels[name]
    if not config.other_teachers:
        return {}
    known = []
    for teacher in config.teachers:
        names = [n for found in known_to(run.settings, teacher).values() for n in found]
        known.append(patients_of(run, select(run, names)))
    found: dict[str, tuple[int, ...]] = {}
    by_all: set[str] = set()
    for selection in select(run, config.unlabelled):
        index = index_table(run.store, selection.corpus)
        pairs = zip(index["exam"].to_pylist(), index["patient"].to_pylist(), strict=True)
        for exam, patient in dict(pairs).items():
            if not selection.holds(patient):
                continue
            strangers = tuple(i for i, patients in enumerate(known) if patient not in patients)
            if not strangers:
                by_all.add(patient)
            elif len(strangers) < len(known):
                found[exam] = strangers
    if by_all:
        raise QualityError(
            f"all teachers of pseudo_labels.{name} have learned from, or were chosen by, "
            f"{len(by_all)} patients of {', '.join(config.unlabelled)}; add to other_teachers a "
            "model that has not, or leave them out"
        )
    return found


def chosen_by_tuning(config: ModelConfig) -> bool:
    """Tell whether the tuning selections decide a model's weights, or are only shown."""
    return config.validation.keep == "best" or config.validation.patience > 0
