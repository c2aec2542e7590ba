"""What all jobs share: the command line, the settings, one line of result, the exit code."""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from ich_ray.config import Settings
from ich_ray.config_log import LogConfig
from ich_ray.distributed import logs
from ich_ray.distributed.session import SUBMISSION_VARIABLE, Session, recorded, session
from ich_ray.errors import ConfigError, IchRayError
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.order import steps_of
from ich_ray.settings import parse, resolved
from ich_ray.sweep import SweepConfig, read_sweep, with_members
from jobs import given_predictions

KEY_VARIABLE = "ICH_RAY_HMAC_KEY"
SECTIONS = {
    "ingest": "corpora",
    "train": "models",
    "pseudo-label": "pseudo_labels",
    "evaluate": "evaluate",
    "review": "pseudo_labels",
    "rank": "pseudo_labels",
    "diagnose": "pseudo_labels",
    "experiment": "experiment",
    "reproduce": "reproduce",
    "power": "evaluate",
}
"""Stage -> the section of the settings that it runs on."""

OF_PREDICTIONS = ("evaluate", "power")
"""Stages that also compare predictions of other software."""


class Told(Protocol):
    """What can be told in one line."""

    def line(self) -> str:
        """Return one line for a person."""


class Summary(Told, Protocol):
    """What a stage returns."""

    @property
    def up_to_date(self) -> bool:
        """Whether there was nothing to do."""


def parser_of(stage: str, *, words: str = "") -> argparse.ArgumentParser:
    """Build the command line of a job, without reading one.

    Args:
        stage: Name on the command line.
        words: What stands between the settings and the overrides, where a stage takes names
            there.
    """
    parser = argparse.ArgumentParser(
        prog=f"ich-ray {stage}", description=f"Run the stage {stage}; a finished one is not redone."
    )
    alone = stage in OF_PREDICTIONS
    parser.add_argument(
        "settings",
        nargs="?" if alone else None,
        help="settings file (TOML)" + ("; not needed with --predictions" if alone else ""),
    )
    overrides_help = "section.key=value, e.g. store.root=s3://b/p"
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar=words or "overrides",
        help=f"then {overrides_help}" if words else overrides_help,
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="this section only; may be repeated"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    parser.add_argument("--json", action="store_true", help="print results as JSON, one a line")
    parser.add_argument(
        "--private-map",
        type=Path,
        metavar="FILE",
        help=argparse.SUPPRESS
        if stage != "ingest"
        else "write key and pseudonym of every object here",
    )
    parser.add_argument(
        "--review",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help=argparse.SUPPRESS
        if stage != "rank"
        else "decisions that the page of ich-ray review exported; once for each reader",
    )
    parser.add_argument(
        "--against",
        metavar="OTHER",
        help=argparse.SUPPRESS
        if stage != "diagnose"
        else "pseudo_labels section of another round, compared slice by slice",
    )
    parser.add_argument(
        "--sweep",
        metavar="FILE",
        help=argparse.SUPPRESS
        if stage != "train"
        else "train every variant of this sweep (TOML: model, seeds, variants), several at once "
        "where they fit, and print a table over the seeds; budgets are shared equally. Exit code: "
        "5 if another try may help, else the worst of 1, 2 and 4",
    )
    if stage in OF_PREDICTIONS:
        given_predictions.add_options(parser)
    return parser


def arguments_of(
    stage: str, arguments: Sequence[str] | None, *, words: str = ""
) -> argparse.Namespace:
    """Read a job's command line; usage errors exit with 2.

    Args:
        stage: Name on the command line.
        arguments: Of the command line; None takes the process's own.
        words: As of `parser_of`; `.words` holds them.
    """
    # Overrides may stand after options: --only teacher models.teacher.steps=200.
    parser = parser_of(stage, words=words)
    options = parser.parse_intermixed_args(arguments)
    if stage in OF_PREDICTIONS:
        given_predictions.to_overrides(options)
    if options.settings is None and not getattr(options, "predictions", []):
        parser.error("settings are needed: a file (TOML)")
    options.words = [word for word in options.overrides if words and "=" not in word]
    options.overrides = [word for word in options.overrides if word not in options.words]
    if options.private_map is not None and stage != "ingest":
        raise ConfigError(f"--private-map is an option of ingest, {stage} writes no map; leave it")
    refuse_sweep(stage, options)
    if options.review and stage != "rank":
        raise ConfigError(f"--review is an option of rank, {stage} reads no decisions; leave it")
    if options.against is not None and stage != "diagnose":
        raise ConfigError(f"--against is an option of diagnose, {stage} compares nothing; leave it")
    return options


def refuse_sweep(stage: str, options: argparse.Namespace) -> None:
    """Refuse a sweep of another stage than train."""
    if options.sweep is not None and stage != "train":
        raise ConfigError(f"--sweep is an option of train, {stage} sweeps nothing; leave it")


def settings_of(options: argparse.Namespace) -> Settings:
    """Read the settings file and the overrides, and log as they say.

    With --sweep they have a section for each of its trainings too.
    """
    sweep = sweep_of(options)
    settings = parse(
        Settings,
        "" if options.settings is None else _text_of(options.settings, "the settings"),
        options.overrides,
        change=None if sweep is None else lambda tree: with_members(tree, sweep),
    )
    # Models that need each other in a circle have no order.
    steps_of(settings)
    logs.configure(settings.log)
    return settings


def sweep_of(options: argparse.Namespace) -> SweepConfig | None:
    """Read the file that --sweep names, if it does."""
    file = getattr(options, "sweep", None)
    return None if file is None else read_sweep(_text_of(file, "the sweep"))


def _text_of(file: str, what: str) -> str:
    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {what} {file}: {error}") from None


def pseudonyms_of(settings: Settings) -> Pseudonyms:
    """Take the key of the pseudonyms from where the settings say."""
    if settings.identity == "public":
        return Pseudonyms(PUBLIC_KEY)
    key = os.environ.get(KEY_VARIABLE, "")
    if len(key) < 16:
        raise ConfigError(
            f"set {KEY_VARIABLE} to a secret of at least 16 characters: patients' pseudonyms are "
            'keyed with it; for public corpora set identity = "public"'
        )
    return Pseudonyms(key.encode())


def opened(
    settings: Settings, *, private_map: Path | None = None
) -> AbstractContextManager[Session]:
    """Open a run of the user's own pseudonyms."""
    return session(
        settings,
        pseudonyms_of(settings),
        private_map=private_map,
        submission=os.environ.get(SUBMISSION_VARIABLE, ""),
    )


def reading(settings: Settings) -> AbstractContextManager[Session]:
    """Open a run that reads pseudonyms and makes none, so that it needs no key of the user's."""
    return session(settings, Pseudonyms(PUBLIC_KEY))


def refuse_nothing(stage: str, settings: Settings) -> None:
    """Refuse settings that hold nothing for a stage.

    Raises:
        ConfigError: It names the section that is missing.
    """
    if stage in SECTIONS and not getattr(settings, SECTIONS[stage]):
        raise ConfigError(
            f"the settings have no [{SECTIONS[stage]}] section, so there is nothing to {stage}; "
            "add it, or is this the settings file of another stage?"
        )


def names_of(options: argparse.Namespace, known: Iterable[str]) -> list[str]:
    """Return the sections that --only, or words, name; or all."""
    all_names = list(known)
    asked = list(dict.fromkeys([*(options.only or []), *options.words]))
    for name in asked:
        if name not in all_names:
            how = "--only " if name in (options.only or []) else ""
            raise ConfigError(f"{how}{name}: known are {', '.join(all_names) or 'none'}")
    return asked or all_names


def report(options: argparse.Namespace, shown: Any, line: str) -> None:
    """Print a result: JSON where asked for, else a line."""
    sys.stdout.write((json.dumps(shown, default=str) if options.json else line) + "\n")
    sys.stdout.flush()


def guarded(work: Callable[[], int]) -> int:
    """Turn what a user can act on into one line and its exit code; bugs keep their traceback."""
    logs.configure(LogConfig())
    # Else a job that is told to stop ends at once, its cluster and its leases left behind.
    told: list[int] = []

    def terminate(number: int, _: FrameType | None) -> None:
        # Noted here: Ray Train raises an interrupt of its own in the place of this one.
        told.append(number)
        if len(told) == 1:
            # Told again, it is on its way: an interrupt would leave leases behind.
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate) if _in_main_thread() else None
    if before is not None and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell has its background commands ignore it, and a lease that is lost interrupts by it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return work()
    except IchRayError as error:
        logs.tell(error)
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("ich-ray: interrupted; the same command goes on where this one stopped\n")
        return 128 + (signal.SIGTERM if told else signal.SIGINT)
    except SystemExit as end:
        # Ray has put its own answer to SIGTERM in the place of ours.
        if end.code != signal.SIGTERM:
            raise
        return 128 + signal.SIGTERM
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def run_stage(
    stage: str,
    arguments: Sequence[str] | None,
    *,
    names: Callable[[Settings], Iterable[str]],
    plan: Callable[[Session, str], dict[str, Any] | Told],
    work: Callable[[Session, str], Summary],
) -> int:
    """Run a stage by its command line, and return the exit code.

    Args:
        stage: Name on the command line.
        arguments: Of the command line; None takes the process's own.
        names: The sections that the stage can run on.
        plan: What would be done, for --dry-run.
        work: Does it.
    """
    return guarded(
        lambda: run_sections(
            stage, arguments_of(stage, arguments), names=names, plan=plan, work=work
        )
    )


def run_sections(
    stage: str,
    options: argparse.Namespace,
    *,
    names: Callable[[Settings], Iterable[str]],
    plan: Callable[[Session, str], dict[str, Any] | Told],
    work: Callable[[Session, str], Summary],
) -> int:
    """Run a stage on the named sections, one after the other.

    Args:
        stage: Name on the command line.
        options: As `arguments_of` reads them.
        names: The sections that the stage can run on.
        plan: What would be done, for --dry-run.
        work: Does it.
    """
    settings = settings_of(options)
    refuse_nothing(stage, settings)
    with opened(settings, private_map=options.private_map) as run:
        for name in names_of(options, names(settings)):
            if options.dry_run:
                shown = plan(run, name)
                if isinstance(shown, dict):
                    report(options, shown, describe(shown))
                else:
                    report(options, resolved_summary(shown), f"would {shown.line()}")
            else:
                summary = carry_out(run, stage, name, work)
                report(options, resolved_summary(summary), summary.line())
    return 0


def carry_out(
    run: Session, stage: str, name: str, work: Callable[[Session, str], Summary]
) -> Summary:
    """Do one step and keep a row of it in the runs table."""
    with recorded(run, stage, name, now=lambda: datetime.now(UTC)) as note:
        summary = work(run, name)
        note(summary.line(), up_to_date=summary.up_to_date)
    return summary


def resolved_summary(summary: Told) -> dict[str, Any]:
    """Return a summary's fields as plain values."""
    shown: dict[str, Any] = resolved(summary)
    return shown


def describe(shown: dict[str, Any]) -> str:
    """Return a plan as one line."""
    return "would " + ", ".join(f"{key}: {value}" for key, value in shown.items())
