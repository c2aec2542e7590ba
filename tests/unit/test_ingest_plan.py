import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.ingest_plan import (
    Planned,
    Truth,
    first_by_key,
    homes_of,
    labels_without_object,
    nearest_exam,
    part_name,
    parts_by_patient,
    truth_changed,
)

POSITIVE = Truth(label=True, subtypes=(False, True, False, False, False))


def planned(number: int, *, patient: int = 0, exam: int = 0, role: str = "slice") -> Planned:
    return Planned(
        key=f"{number:04d}.dcm",
        url=f"file:///source/{number:04d}.dcm",
        source=f"source {number}",
        etag="1",
        size=10,
        role=role,
        patient=f"patient {patient}",
        exam=f"patient {patient} exam {exam}",
        slice=f"slice {number}",
    )


def named(objects: list[Planned], **changes: str) -> str:
    facts = {"schema_version": "1", "layout": "folder", "key_fingerprint": "k", **changes}
    return part_name(objects, **facts)


places = st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from(["slice", "mask"]))
sources = st.lists(places, max_size=30).map(
    lambda found: [
        planned(number, patient=patient, exam=exam, role=role)
        for number, (patient, exam, role) in enumerate(found)
    ]
)


@given(sources, st.integers(1, 8))
def test_every_object_is_in_one_part_and_no_exam_or_patient_is_divided(
    objects: list[Planned], slices_per_part: int
) -> None:
    parts = parts_by_patient(objects, slices_per_part=slices_per_part)
    assert sorted(item.key for part in parts for item in part) == [item.key for item in objects]
    for noun in ("patient", "exam"):
        homes = [{getattr(item, noun) for item in part} for part in parts]
        assert sum(len(home) for home in homes) == len(set().union(*homes))


@given(sources, st.integers(1, 8))
def test_a_part_is_full_at_most_unless_its_patient_alone_is_more(
    objects: list[Planned], slices_per_part: int
) -> None:
    for part in parts_by_patient(objects, slices_per_part=slices_per_part):
        slices = sum(item.role == "slice" for item in part)
        with_slices = {item.patient for item in part if item.role == "slice"}
        assert slices <= slices_per_part or len(with_slices) == 1


@given(sources.flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))))
def test_parts_and_their_names_do_not_depend_on_the_order_of_the_listing(
    found: tuple[list[Planned], list[Planned]],
) -> None:
    def names(objects: list[Planned]) -> list[str]:
        return [named(part) for part in parts_by_patient(objects, slices_per_part=4)]

    listed, shuffled = found
    assert names(listed) == names(shuffled)


@pytest.mark.parametrize(
    "change",
    [{"source": "another"}, {"etag": "2"}, {"truth": Truth(label=False)}, {"truth": POSITIVE}],
)
def test_the_name_of_a_part_changes_with_its_content(change: dict[str, object]) -> None:
    objects = [planned(1), planned(2)]
    assert named([objects[0]._replace(**change), objects[1]]) != named(objects)
    assert named(objects[:1]) != named(objects)


def test_the_name_of_a_part_changes_with_schema_layout_and_key() -> None:
    objects = [planned(1)]
    names = {
        named(objects),
        named(objects, schema_version="2"),
        named(objects, layout="rsna"),
        named(objects, key_fingerprint="other"),
    }
    assert len(names) == 4


def test_the_name_of_a_part_stays_what_it_was() -> None:
    # A recorded number: another name would write every part again.
    objects = [planned(1), planned(2)._replace(truth=POSITIVE)]
    assert named(objects) == "09550497ade1fd93"


@given(st.permutations([1, 2, 3]))
def test_of_duplicates_the_first_by_key_counts(order: list[int]) -> None:
    copies = [planned(number)._replace(slice="the same") for number in order]
    first, duplicates = first_by_key(copies, known=set())
    assert [item.key for item in first] == ["0001.dcm"]
    assert [item.key for item in duplicates] == ["0002.dcm", "0003.dcm"]


def test_what_the_corpus_holds_is_a_duplicate_and_a_mask_is_none_of_its_slice() -> None:
    known = {("slice", "slice 1")}
    mask = planned(2, role="mask")._replace(slice="slice 1")
    assert first_by_key([planned(1), mask], known=known) == ([mask], [planned(1)])


def test_a_volume_counts_as_its_slices() -> None:
    volumes = [planned(n, patient=n)._replace(num_slices=30) for n in range(4)]
    parts = parts_by_patient(volumes, slices_per_part=64)
    assert [len(part) for part in parts] == [2, 2]


def test_the_name_of_a_part_changes_with_the_labels_of_a_volume() -> None:
    volume = planned(1)
    negative, positive = {"a": Truth(label=False)}, {"a": POSITIVE}
    names = {named([volume._replace(slices=said)]) for said in ({}, negative, positive)}
    assert len(names) == 3
    both = [{"a": POSITIVE, "b": POSITIVE}, {"b": POSITIVE, "a": POSITIVE}]
    assert len({named([volume._replace(slices=said)]) for said in both}) == 1


def below(key: str, exam: int) -> Planned:
    return planned(1, patient=exam, exam=exam)._replace(key=key)


@pytest.mark.parametrize(
    ("folder", "climb", "exam"),
    [
        ("p1", True, 1),
        ("p1/dicom", True, 1),
        ("p1/masks/mine", True, 1),
        ("p1/masks", False, None),
        ("p2", True, None),  # two exams: whose?
        ("p2/b", True, 3),
        ("", True, None),
        ("elsewhere", True, None),
        ("p1/dic", False, None),
    ],
)
def test_a_mask_belongs_to_the_one_exam_that_lies_nearest(
    folder: str, *, climb: bool, exam: int | None
) -> None:
    slices = [below(k, e) for k, e in (("p1/dicom/1", 1), ("p2/a/1", 2), ("p2/b/c/1", 3))]
    expected = None if exam is None else (f"patient {exam}", f"patient {exam} exam {exam}")
    homes = homes_of((item.key, item.patient, item.exam) for item in slices)
    assert nearest_exam(folder, homes, climb=climb) == expected


def test_a_label_without_its_object_is_missing() -> None:
    expected = {"a": "a.dcm", "b": "b.dcm", "c": "c.dcm"}
    # What was found but not read has its own reason.
    assert labels_without_object(expected, slices={"a"}, keys={"b.dcm"}) == ["c.dcm"]


def test_labels_of_another_folder_are_not_missing() -> None:
    assert labels_without_object({"a": "a.dcm", "b": "b.dcm"}, slices={"c"}, keys={"c.dcm"}) == []


def test_labels_that_agree_with_the_corpus_have_not_changed() -> None:
    assert not truth_changed(POSITIVE, label=True, subtypes=[False, True, False, False, False])
    assert truth_changed(POSITIVE, label=False, subtypes=[False] * 5)
    assert truth_changed(POSITIVE, label=True, subtypes=[True, True, False, False, False])


def test_a_label_that_vanished_is_a_change_and_one_of_a_mask_is_not() -> None:
    assert truth_changed(Truth(), label=True, subtypes=[True, False, False, False, False])
    assert not truth_changed(Truth(), label=True, subtypes=None)
