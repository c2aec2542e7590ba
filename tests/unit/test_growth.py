from collections.abc import Mapping
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.growth import Growth, growth_of
from ich_ray.ingest_plan import Entry, Planned, first_by_key, part_name, parts_by_patient


@dataclass(frozen=True)
class Object:
    """What an object of a source says of itself."""

    patient: int
    exam: int
    slice: int
    version: int = 0


Listing = Mapping[str, Object]


def planned(key: str, item: Object) -> Planned:
    return Planned(
        key=key,
        url=key,
        source=f"source {key}",
        etag=str(item),
        size=1,
        role="slice",
        patient=f"patient {item.patient}",
        exam=f"exam {item.patient} {item.exam}",
        slice=f"slice {item.slice}",
    )


def entry(item: Planned, outcome: str, part: str | None = None) -> Entry:
    return Entry(
        source=item.source,
        etag=item.etag,
        size=1,
        role="slice",
        outcome=outcome,
        patient=item.patient,
        exam=item.exam,
        slice=item.slice,
        part=part,
    )


def grown(ledger: Mapping[str, Entry], listing: Listing) -> tuple[Growth, list[Planned]]:
    """Return what is planned anew, and the objects that are new."""
    there = {f"source {key}": planned(key, item) for key, item in listing.items()}
    new = [p for s, p in there.items() if s not in ledger or ledger[s].etag != p.etag]
    changed = {p.source for p in new if p.source in ledger}
    return growth_of(list(ledger.values()), new, changed=changed, here=set(there)), new


def ingested(ledger: Mapping[str, Entry], listing: Listing) -> dict[str, Entry]:
    """Carry out an ingest on the ledger alone: every object can be read."""
    there = {f"source {key}": planned(key, item) for key, item in listing.items()}
    growth, new = grown(ledger, listing)
    again = [there[row.source] for row in growth.again]
    first, copies = first_by_key([*new, *again], known=growth.taken)
    kept = [
        planned("", Object(0, 0, 0))._replace(
            source=row.source,
            etag=row.etag,
            patient=row.patient or "",
            exam=row.exam or "",
            slice=row.slice or "",
            kept_in=row.part or "",
        )
        for row in growth.kept
    ]
    taken = {item.slice for item in first}
    kept = [item for item in kept if item.exam not in growth.exams or item.slice not in taken]
    after = {row.source: row for row in ledger.values()}
    after |= {item.source: entry(item, "duplicate") for item in copies}
    for objects in parts_by_patient([*first, *kept], slices_per_part=3):
        name = part_name(
            objects,
            schema_version="1",
            layout="folder",
            key_fingerprint="k",
            replaces=growth.parts,
        )
        after |= {item.source: entry(item, "accepted", name) for item in objects}
    return after


def content(ledger: Mapping[str, Entry]) -> set[tuple[str, str, str | None, str | None]]:
    return {(row.source, row.outcome, row.exam, row.slice) for row in ledger.values()}


objects = st.builds(Object, st.integers(0, 2), st.integers(0, 1), st.integers(0, 5))
listings = st.dictionaries(st.sampled_from("abcdefgh"), objects, max_size=8)


@settings(deadline=None)
@given(listings, listings, listings)
def test_a_source_that_grows_and_changes_ends_as_if_it_had_been_ingested_at_once(
    first: Listing, second: Listing, third: Listing
) -> None:
    ledger: dict[str, Entry] = {}
    listing: dict[str, Object] = {}
    for step in (first, second, third):
        listing |= step
        ledger = ingested(ledger, listing)
        assert content(ledger) == content(ingested({}, listing))


@given(listings, listings)
def test_no_patient_is_in_two_parts_and_no_part_is_half_replaced(
    first: Listing, second: Listing
) -> None:
    before = ingested({}, first)
    growth, _ = grown(before, {**first, **second})
    after = ingested(before, {**first, **second})
    assert not growth.parts & {row.part for row in after.values()}
    homes: dict[str | None, set[str]] = {}
    for row in after.values():
        if row.part is not None:
            homes.setdefault(row.patient, set()).add(row.part)
    assert all(len(parts) == 1 for parts in homes.values())


@given(listings, listings)
def test_what_is_gone_stays_unless_its_slice_has_come_under_another_key(
    first: Listing, second: Listing
) -> None:
    before = ingested({}, first)
    after = ingested(before, second)

    def accepted(ledger: Mapping[str, Entry]) -> set[str | None]:
        return {row.slice for row in ledger.values() if row.outcome == "accepted"}

    changed = {before[f"source {key}"].slice for key in first.keys() & second.keys()}
    assert accepted(before) - changed <= accepted(after)


@given(listings)
def test_an_unchanged_source_plans_nothing(listing: Listing) -> None:
    growth, new = grown(ingested({}, listing), listing)
    assert (new, growth.exams, growth.parts, growth.again, growth.kept) == (
        [],
        set(),
        set(),
        [],
        [],
    )


def test_a_new_slice_takes_its_whole_exam_and_leaves_other_exams_of_the_part_unread() -> None:
    listing = {"a": Object(0, 0, 1), "b": Object(0, 0, 2), "c": Object(1, 0, 3)}
    before = ingested({}, listing)
    growth, _ = grown(before, {**listing, "d": Object(0, 0, 4)})
    assert growth.exams == {"exam 0 0"}
    assert [row.source for row in growth.again] == ["source a", "source b"]
    assert [row.source for row in growth.kept] == ["source c"]
    assert len(growth.parts) == 1


def test_a_new_exam_of_another_patient_touches_nothing() -> None:
    before = ingested({}, {"a": Object(0, 0, 1)})
    growth, _ = grown(before, {"a": Object(0, 0, 1), "b": Object(1, 0, 2)})
    assert (growth.parts, growth.again, growth.kept) == (set(), [], [])


def test_a_copy_of_what_another_exam_holds_rejected_stays_a_copy() -> None:
    listing = {"a": Object(0, 0, 1), "b": Object(1, 0, 1), "c": Object(1, 0, 2)}
    before = ingested({}, listing)
    assert before["source b"].outcome == "duplicate"
    rejected = replace(before["source a"], outcome="rejected", part=None)
    after = ingested({**before, "source a": rejected}, {**listing, "d": Object(1, 0, 3)})
    assert after["source b"].outcome == "duplicate"


def test_an_exam_of_which_the_labels_are_new_is_planned_anew() -> None:
    listing = {"a": Object(0, 0, 1), "b": Object(1, 0, 2)}
    held = list(ingested({}, listing).values())
    here = {row.source for row in held}
    growth = growth_of(held, [], changed=set(), here=here, anew={"exam 0 0"})
    assert [row.source for row in growth.again] == ["source a"]
    assert [row.source for row in growth.kept] == ["source b"]
