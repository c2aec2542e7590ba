import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ich_ray.exam import IGNORED, Geometry, Slice
from ich_ray.slice_facts import facts_of, image_fingerprint

images = arrays.arrays(
    np.int16,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.integers(-1000, 3071),
).map(lambda values: values.astype(np.float32))


@given(images, st.integers(0, 3), st.sampled_from([1, -1]))
def test_an_image_that_is_turned_or_mirrored_keeps_its_fingerprint(
    image: np.ndarray, turns: int, direction: int
) -> None:
    other = np.rot90(image[::direction], turns)
    assert image_fingerprint(np.ascontiguousarray(other)) == image_fingerprint(image)


@given(images, st.data())
def test_one_pixel_that_differs_by_one_hu_changes_the_fingerprint(
    image: np.ndarray, data: st.DataObject
) -> None:
    place = tuple(data.draw(st.integers(0, size - 1)) for size in image.shape)
    other = image.copy()
    other[place] += 1 if other[place] < 3071 else -1
    assert image_fingerprint(other) != image_fingerprint(image)


def test_the_same_pixels_in_another_shape_are_another_image() -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert image_fingerprint(image.reshape(2, 6)) != image_fingerprint(image)
    flat = np.zeros((3, 4), np.float32)
    assert image_fingerprint(flat.reshape(2, 6)) != image_fingerprint(flat)


def test_pixels_that_are_laid_out_otherwise_are_another_image() -> None:
    image = np.zeros((8, 8), np.float32)
    other = image.copy()
    image[0, :2], other[0, 0], other[1, 1] = 40, 40, 40
    assert image_fingerprint(other) != image_fingerprint(image)


def test_padding_below_air_is_no_difference() -> None:
    image = np.full((4, 4), -1000, np.float32)
    image[1:3, 1:3] = 40
    for padding in (-1024, -2000, -3024):
        assert image_fingerprint(np.where(image < 0, np.float32(padding), image)) == (
            image_fingerprint(image)
        )


def test_the_facts_of_a_slice_name_what_its_mask_marks() -> None:
    mask = np.zeros((2, 4), np.uint8)
    mask[0] = [5, 2, 5, IGNORED]
    hounsfield = np.array([[-1000, 0, 60, 1200], [1, 2, 3, 4]], np.float32)
    for held, marked in ((mask, (2, 5)), (np.zeros_like(mask), ()), (None, None)):
        item = Slice(
            exam="e",
            key="s",
            patient="p",
            series="r",
            stored=hounsfield.astype(np.int16),
            slope=1.0,
            intercept=0.0,
            geometry=Geometry(position_mm=1.0, spacing_mm=None, thickness_mm=5.0, tilt_deg=0.0),
            mask=held,
        )
        found = facts_of(item, hounsfield)
        assert found.marked == marked
        assert (found.low_hu, found.high_hu, found.blank) == (-1000, 1200, False)
        assert (found.rows, found.columns) == (2, 4)
