"""What is running, what has run, and where its outputs lie: the store's word, and the cluster's."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ich_ray.config import StoreConfig
from ich_ray.distributed.job_client import connect, jobs_of
from ich_ray.errors import first_line
from ich_ray.storage.leases import claims, has_ended, silent_s
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table, read_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusLine:
    """One run, finished or not."""

    state: str
    """`writing`, `silent` (without a beat for longer than its lease allows), `done`, an error's
    kind, or of a job that Ray knows its state in capitals."""

    what: str
    started: str
    """UTC, ISO 8601."""

    took_s: float | None
    """None while it runs, or where nobody knows."""

    said: str
    outputs: tuple[str, ...] = ()

    def line(self) -> str:
        """Return one line for a person."""
        took = "" if self.took_s is None else f", {self.took_s:.0f} s"
        where = f" -> {', '.join(self.outputs)}" if self.outputs else ""
        return f"{self.started}  {self.state:<10} {self.what}{took}: {self.said}{where}"


def status(config: StoreConfig, address: str | None, *, last: int) -> list[StatusLine]:
    """Return the latest runs of a store, what is being written there, and a cluster's jobs.

    Args:
        config: Of the settings.
        address: Of a job API; None asks none.
        last: How many runs and jobs at most.

    Raises:
        ConfigError: The address or the token is wrong.
        SurroundingsError: The store or the cluster does not answer.
    """
    store = Store.from_config(config)
    found = [*_past(store, last), *_writing(store)]
    if address is not None:
        found += _jobs(address, last)
    return found


def _past(store: Store, last: int) -> Iterator[StatusLine]:
    table = open_table(store, store.url("runs"))
    rows = [] if table is None else read_rows(store, table).to_pylist()
    for row in sorted(rows, key=lambda row: row["started"])[-last:]:
        outputs = json.loads(row.get("outputs") or "[]")
        yield StatusLine(
            state=row["outcome"],
            what=" ".join(filter(None, (row["stage"], row["name"]))),
            started=row["started"].isoformat(timespec="seconds"),
            took_s=(row["ended"] - row["started"]).total_seconds(),
            said=first_line(json.loads(row["figures"]).get("line", "")),
            outputs=tuple(str(output["url"]) for output in outputs),
        )


def _writing(store: Store) -> Iterator[StatusLine]:
    for name, claim in sorted(claims(store).items()):
        if claim.released or has_ended(claim.holder):
            continue
        job = f", submission {claim.holder.submission}" if claim.holder.submission else ""
        age_s = silent_s(store, name, claim)
        state, said = "writing", f"taken over after {claim.expires_s:g} s of silence"
        if age_s > claim.expires_s:
            beat = datetime.now(UTC) - timedelta(seconds=age_s)
            state = "silent"
            said = f"silent since {beat.isoformat(timespec='seconds')}; the next run takes over"
        yield StatusLine(
            state=state,
            what=name,
            started=claim.since,
            took_s=None,
            said=f"{claim.holder.place}{job}; {said}",
            outputs=(store.url(*name.split("/")),),
        )


def _jobs(address: str, last: int) -> Iterator[StatusLine]:
    jobs = sorted(
        jobs_of(connect(address), address).items(), key=lambda job: job[1].start_time or 0
    )
    for submission, job in jobs[-last:]:
        began = datetime.fromtimestamp((job.start_time or 0) / 1000, UTC)
        took = None if job.end_time is None else (job.end_time - (job.start_time or 0)) / 1000
        yield StatusLine(
            state=str(job.status.value),
            what=f"job {submission}",
            started=began.isoformat(timespec="seconds"),
            took_s=took,
            said=first_line(job.entrypoint),
        )
