"""What workers are told of objects must be what was planned."""

from hypothesis import example, given
from hypothesis import strategies as st

from ich_ray.distributed.ingest_passes import planned_from, told_of
from ich_ray.ingest_plan import Planned, Truth

NAMES = st.text("ab0", max_size=3)
TRUTHS = st.builds(
    Truth,
    st.sampled_from([None, True, False]),
    st.none() | st.tuples(*[st.booleans()] * 5),
)
OBJECTS = st.builds(
    Planned,
    key=NAMES,
    url=NAMES,
    source=NAMES,
    etag=NAMES,
    size=st.integers(0, 3),
    role=st.sampled_from(["slice", "mask"]),
    patient=NAMES,
    exam=NAMES,
    slice=NAMES,
    series=NAMES,
    truth=TRUTHS,
    exam_truth=TRUTHS,
    num_slices=st.integers(0, 3),
    slices=st.dictionaries(NAMES, TRUTHS, max_size=2),
    kept_in=NAMES,
    gone=st.booleans(),
)


REQUIRED = ("key", "url", "source", "etag", 1, "slice", "patient", "exam", "slice", "series")


# Leaving out what is as by default is what most objects of a corpus meet, and chance seldom does.
@example([Planned(*REQUIRED), Planned(*REQUIRED, gone=True)])
@given(st.lists(OBJECTS, max_size=3))
def test_objects_reach_a_worker_as_they_were_planned(objects: list[Planned]) -> None:
    assert planned_from(told_of(objects)) == objects
