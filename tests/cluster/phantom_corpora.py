"""Corpora of phantoms, written as ingest writes them, with whatever a test plants in them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from ich_ray.exam import Geometry, Slice
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.ingest_plan import Entry
from ich_ray.phantom import SITES, make_exam
from ich_ray.storage import corpus, ledger, slice_rows
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import commit, write_part
from ich_ray.volume import position_along

NAMES = Pseudonyms(PUBLIC_KEY)
AXIAL = np.array([0.0, 0.0, 1.0])


def phantom_exam(index: int, *, site: str = "a", num_slices: int = 8) -> list[Slice]:
    """The slices of one phantom with its truth, as a corpus holds them; 64 x 64 pixels."""
    made = make_exam(
        replace(SITES[site], tilt_deg=0.0), seed=0, index=index, matrix=64, num_slices=num_slices
    )
    slices = []
    for number, (stored, mask, types) in enumerate(
        zip(made.stored, made.mask, made.subtypes, strict=True)
    ):
        position = position_along(AXIAL, made.positions_mm[number].tolist())
        flags = [bool(flag) for flag in types]
        slices.append(
            Slice(
                exam=NAMES.of(made.study_uid),
                key=NAMES.of(made.sop_uids[number]),
                patient=NAMES.of(made.patient),
                series=NAMES.of(made.series_uid),
                stored=stored,
                slope=made.slope,
                intercept=made.intercept,
                geometry=Geometry(
                    position_mm=position,
                    spacing_mm=made.spacing_mm,
                    thickness_mm=made.thickness_mm,
                    tilt_deg=0.0,
                ),
                label=any(flags),
                subtypes=(flags[0], flags[1], flags[2], flags[3], flags[4]),
                mask=mask,
            )
        )
    return slices


def write_corpus(
    store: Store,
    name: str,
    exams: Iterable[Sequence[Slice]],
    *,
    names: Pseudonyms = NAMES,
    exams_of_a_part: int = 2,
) -> None:
    """Commit exams as a corpus, or append them to it, and a ledger of them."""
    whole = list(exams)
    table_url = corpus.slices_url(store, name)
    parts = []
    for start in range(0, len(whole), exams_of_a_part):
        chosen = whole[start : start + exams_of_a_part]
        tag = NAMES.of(" ".join(item.key for exam in chosen for item in exam))
        rows = slice_rows.to_table(chosen)
        parts.append(write_part(store, table_url, tag, rows, [len(exam) for exam in chosen]))
    kind = whole[0][0].kind
    properties = {
        "schema_version": corpus.SCHEMA_VERSION,
        "kind": kind,
        "center": str(whole[0][0].center),
        "width": str(whole[0][0].width),
        "layout": "folder",
        "key_fingerprint": names.fingerprint,
    }
    commit(store, table_url, schema=corpus.SCHEMA, parts=parts, properties=properties)
    entries = [
        Entry(source=item.key, etag="1", size=1, role="slice", outcome="accepted")
        for exam in whole
        for item in exam
    ]
    entries.append(
        Entry(source="0", etag="1", size=1, role="slice", outcome="rejected", reason="not_ct")
    )
    url = corpus.ledger_url(store, name)
    part = write_part(
        store, url, f"{parts[0].path.split('.')[0]}-ledger", ledger.to_table(entries), None
    )
    commit(store, url, schema=ledger.SCHEMA, parts=[part], properties=properties)


def changed(exam: list[Slice], number: int, change: Callable[[Slice], Slice]) -> list[Slice]:
    """Return an exam with one slice changed; -1 is the last."""
    place = range(len(exam))[number]
    return [change(item) if i == place else item for i, item in enumerate(exam)]
