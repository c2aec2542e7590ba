"""A published study made anew: its evaluations as a family, its tables beside the printed ones."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ich_ray.distributed.experiment import report_of
from ich_ray.distributed.family import Family, carry_out, evaluated, family_of, plan_family
from ich_ray.distributed.report import gallery_of
from ich_ray.distributed.segmentations import agreements
from ich_ray.distributed.session import Session, code_revision
from ich_ray.experiment import experiment_of
from ich_ray.reporting.reproduction_page import Reproduction, write_reproduction
from ich_ray.reporting.stills import Still
from ich_ray.reproduction import Member, members_of, reproduce_of
from ich_ray.reproduction_cells import Table, table_lines
from ich_ray.reproduction_data import data_of
from ich_ray.reproduction_tables import Report, tables_of
from ich_ray.step_graph import blocked
from ich_ray.sweep import FAILURES, exit_code_of_all


@dataclass(frozen=True, kw_only=True, slots=True)
class ReproduceSummary:
    """What a reproduction did, and its tables."""

    data: str
    """On what: the paper's kind of corpora, or synthetic heads."""

    tables: tuple[Table, ...]
    agreements: tuple[Mapping[str, Any], ...]
    failed: Mapping[str, int]
    """Step -> its exit code."""

    waiting: tuple[str, ...]
    """Steps that need one that failed."""

    page: str
    up_to_date: bool

    @property
    def exit_code(self) -> int:
        """As of an experiment."""
        return exit_code_of_all(self.failed.values())

    def line(self) -> str:
        """Return the tables for a person."""
        lines = [self.data, ""]
        for table in self.tables:
            lines += [*table_lines(table), ""]
        lines += [
            f"failed {name}: exit code {code} ({FAILURES.get(code, 'ended from outside')})"
            for name, code in self.failed.items()
        ]
        lines += [f"waits for what failed: {', '.join(self.waiting)}"] if self.waiting else []
        done = "up to date" if self.up_to_date else "incomplete" if self.failed else "done"
        return "\n".join([*lines, f"reproduction of Lin & Yuh: {done}, tables {self.page}"])


def plan_reproduction(run: Session) -> dict[str, str]:
    """Return step -> what would become of it, for --dry-run; touches nothing."""
    return plan_family(_family(run))


def reproduce(run: Session, tell: Callable[[str], None], *, as_json: bool) -> ReproduceSummary:
    """Do what is missing of a reproduction, and write its tables.

    A step that fails stops only what needs it; the tables hold what there is, and the same command
    then does what is missing.

    Args:
        run: Of settings with an experiment and a reproduction.
        tell: Receives the lines that the steps write to standard error.
        as_json: Whether each prints its result as JSON.

    Raises:
        ConfigError: Something is refused before it starts, or does not fit the cluster.
        QualityError: A segmentation is not of the test exams.
    """
    config, members = reproduce_of(run.settings), list(members_of(run.settings))
    family = _family(run)
    walked = carry_out(run, family, tell, as_json=as_json)
    there = evaluated(family, walked)
    reports: dict[Member, Report] = {
        member: report_of(there[member.name]) for member in members if member.name in there
    }
    found = Reproduction(
        data=data_of(run.settings),
        tables=tables_of(reports),
        agreements=_agreements(run, reports),
        reports={member.name: f"{member.name}/index.html" for member in reports},
        stills=_stills(there, reports),
        corpora=tuple(next(iter(reports.values()))["corpora"]) if reports else (),
        pseudo_labels=next(
            (one["pseudo_labels"] for one in reports.values() if one["pseudo_labels"]), None
        ),
        revision=code_revision(),
    )
    return ReproduceSummary(
        data=found.data,
        tables=found.tables,
        agreements=found.agreements,
        failed=walked.failed,
        waiting=tuple(blocked(family.graph, walked.failed)),
        page=str(write_reproduction(found, Path(config.report))),
        up_to_date=not walked.codes,
    )


def _stills(there: Mapping[str, Session], made: Iterable[Member]) -> tuple[Still, ...]:
    """Return the gallery of the first evaluation on the validation exams, if there is one."""
    of_ranker = (member.name for member in made if member.table == "3")
    return next((gallery_of(there[name]) for name in of_ranker), ())


def _family(run: Session) -> Family:
    members = {member.name: one for member, one in members_of(run.settings).items()}
    return family_of(run, members, at_once=experiment_of(run.settings).at_once)


def _agreements(run: Session, made: Iterable[Member]) -> tuple[Mapping[str, Any], ...]:
    """Return how far the segmentations agree that have been evaluated, and the first with them."""
    evaluate, members = run.settings.evaluate, list(made)
    assert evaluate is not None
    others = dict.fromkeys(member.masks for member in members if member.table == "4")
    if not others or not any(member.table == "1" for member in members):
        return ()
    return tuple(agreements(run, [*evaluate.test, *others], seed=evaluate.seed))
