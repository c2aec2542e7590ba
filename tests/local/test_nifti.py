import gzip
import io
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.config import NiftiConfig
from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import Slice
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.storage import nifti
from ich_ray.storage.corpora.nifti import Nifti
from ich_ray.storage.corpus import hounsfield
from tests.local.nifti_corpora import AFFINE, SHAPE, head, image_of, marks, turned

NAMES = Pseudonyms(PUBLIC_KEY)
LAYOUT = Nifti(NiftiConfig(image="ct/{patient}.nii", mask="masks/{patient}.nii", prefix="x/"))
ALL_AXES = [
    a + b + c
    for pairs in (("RL", "AP", "SI"), ("AP", "RL", "SI"), ("SI", "RL", "AP"), ("AP", "SI", "RL"))
    for a in pairs[0]
    for b in pairs[1]
    for c in pairs[2]
]


def read(made: nibabel.Nifti1Image) -> list[Slice]:
    return LAYOUT.read_slices("ct/7.nii", made.to_bytes(), NAMES)


def by_key(slices: list[Slice]) -> dict[str, Slice]:
    return {item.key: item for item in slices}


def masks_of(made: nibabel.Nifti1Image, slices: list[Slice]) -> list[np.ndarray]:
    found = LAYOUT.read_masks("masks/7.nii", made.to_bytes(), by_key(slices), NAMES)
    return [found[item.key] for item in slices]


def reason_of(made: nibabel.Nifti1Image | bytes) -> Reason:
    data = made if isinstance(made, bytes) else made.to_bytes()
    with pytest.raises(InvalidExam) as caught:
        LAYOUT.read_slices("ct/7.nii", data, NAMES)
    return caught.value.reason


def test_a_volume_becomes_slices_as_dicom_shows_them() -> None:
    # Stored right to left, front to back and from the feet up: DICOM's own order.
    slices = read(image_of(head()))
    assert np.array_equal(np.stack([s.stored for s in slices]), head().T)
    first, second = slices[:2]
    assert first.geometry.position_mm == -30.0
    assert second.geometry.position_mm == -25.0
    assert first.geometry.spacing_mm == pytest.approx((0.6, 0.5))
    assert first.geometry.thickness_mm == pytest.approx(5.0)
    assert first.geometry.tilt_deg == 0.0
    assert first.geometry.plane is not None
    # NIfTI's x and y point the other way.
    assert first.geometry.plane.corner_mm == (-60.0, -70.0, -30.0)
    assert {s.patient for s in slices} == {NAMES.of("x/7")}
    assert [s.key for s in slices] == [NAMES.of(f"x/7/{number}") for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("axes", ALL_AXES)
def test_no_slice_depends_on_the_axes_along_which_a_file_stores_it(axes: str) -> None:
    straight, other = read(image_of(head())), read(turned(image_of(head()), axes))
    for a, b in zip(straight, other, strict=True):
        assert np.array_equal(a.stored, b.stored)
        assert a.geometry.position_mm == pytest.approx(b.geometry.position_mm)
        assert a.geometry.plane is not None
        assert b.geometry.plane is not None
        assert a.geometry.plane.corner_mm == pytest.approx(b.geometry.plane.corner_mm)
    # Labels count in the file's own order, which may run from the head down.
    downwards = "I" in axes
    assert [s.key for s in other] == [s.key for s in (straight[::-1] if downwards else straight)]


@pytest.mark.parametrize("axes", ALL_AXES)
def test_a_mask_lies_where_it_lies_in_the_patient(axes: str) -> None:
    for image_axes in ("LPS", "RAI"):
        slices = read(turned(image_of(head()), image_axes))
        found = masks_of(turned(image_of(marks()), axes), slices)
        assert np.array_equal(np.stack(found), marks().T)


@given(
    st.sampled_from([np.int16, np.uint16, np.uint8, np.int32, np.float32, np.float64]),
    st.sampled_from([1.0, 2.0, 0.5, 1 / 3]),
    st.sampled_from([0.0, -1024.0, -1000.5]),
)
@settings(max_examples=30, deadline=None)
def test_hounsfield_units_are_those_of_nibabel(
    dtype: type[np.generic], slope: float, intercept: float
) -> None:
    stored = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)
    stored[0] = 0
    made = image_of(stored, slope=slope, intercept=intercept - 1000.0)
    slices = read(made)
    reference = nibabel.Nifti1Image.from_bytes(made.to_bytes()).get_fdata(dtype=np.float32).T
    assert slices[0].stored.dtype == np.int16
    assert np.array_equal(np.stack([s.stored for s in slices]), stored.T)
    assert np.allclose(np.stack([hounsfield(s) for s in slices]), reference, rtol=1e-6)


def test_a_gantry_tilt_is_kept() -> None:
    angle = np.radians(18.5)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    slices = read(image_of(head(), tilt @ AFFINE))
    assert slices[0].geometry.tilt_deg == pytest.approx(18.5, abs=1e-4)
    positions = [s.geometry.position_mm or 0.0 for s in slices]
    assert np.diff(positions) == pytest.approx([5.0] * 3, abs=1e-4)
    found = masks_of(turned(image_of(marks(), tilt @ AFFINE), "SRA"), slices)
    assert np.array_equal(np.stack(found), marks().T)


def test_files_of_one_form_or_none_are_read_alike() -> None:
    reference = read(image_of(head()))
    for forms in ({"sform": 0}, {"qform": 0}):
        for a, b in zip(read(image_of(head(), **forms)), reference, strict=True):
            assert np.array_equal(a.stored, b.stored)
            assert a.geometry.position_mm == pytest.approx(b.geometry.position_mm)
    # Without both the spacings alone are known: nibabel takes rows to run from the back.
    bare = read(image_of(head(), sform=0, qform=0))
    for a, b in zip(bare, reference, strict=True):
        assert np.array_equal(a.stored, b.stored[::-1])
    assert np.diff([s.geometry.position_mm or 0.0 for s in bare]) == pytest.approx([5.0] * 3)


def big_endian(made: nibabel.Nifti1Image) -> bytes:
    stream = io.BytesIO()
    swapped = nibabel.Nifti1Image(made.dataobj, made.affine, made.header.as_byteswapped(">"))
    swapped.to_stream(stream)
    return stream.getvalue()


def test_nifti_2_gzip_and_big_endian_are_read() -> None:
    reference = [s.stored.tobytes() for s in read(image_of(head()))]
    plain = image_of(head()).to_bytes()
    # bgzip and pigz write many members, one after the other.
    members = b"".join(gzip.compress(plain[i : i + 100]) for i in range(0, len(plain), 100))
    others = [
        nibabel.Nifti2Image(head(), AFFINE).to_bytes(),
        gzip.compress(plain),
        members,
        big_endian(image_of(head())),
    ]
    for data in others:
        slices = LAYOUT.read_slices("ct/7.nii", data, NAMES)
        assert [s.stored.tobytes() for s in slices] == reference


def coronal() -> nibabel.Nifti1Image:
    """Thick along the front and back: its axial planes were never taken."""
    return image_of(head(), AFFINE @ np.diag([1.0, 8.0, 0.1, 1.0]))


def with_units(units: str) -> nibabel.Nifti1Image:
    made = image_of(head())
    made.header.set_xyzt_units(units)
    return made


def header_bytes(**fields: Any) -> bytes:
    made = image_of(head())
    # Only in memory is nibabel's slope of no scaling NaN; in a file it is 1.
    made.header["scl_slope"], made.header["scl_inter"] = 1.0, 0.0
    for name, value in fields.items():
        made.header[name] = value
    made.header["vox_offset"] = fields.get("vox_offset", 352)
    return made.header.binaryblock + made.to_bytes()[348:]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (b"", Reason.NOT_NIFTI),
        (b"no NIfTI at all" * 100, Reason.NOT_NIFTI),
        (b"\x1f\x8b broken", Reason.NOT_NIFTI),
        (image_of(head()).to_bytes()[:-1], Reason.TRUNCATED_PIXELS),
        (gzip.compress(image_of(head()).to_bytes())[:-30], Reason.TRUNCATED_PIXELS),
        (image_of(head() / 3.0), Reason.INEXACT_PIXELS),
        (image_of(np.where(head() > 0, np.nan, head())), Reason.INEXACT_PIXELS),
        (image_of(head().astype(np.int32) * 1000), Reason.INEXACT_PIXELS),
        (image_of(np.clip(head(), 0, 80).astype(np.uint8)), Reason.NO_RESCALE),
        (coronal(), Reason.NOT_AXIAL),
        (with_units("micron"), Reason.BAD_HEADER),
        (image_of(np.stack([head(), head()], axis=3)), Reason.NOT_AN_IMAGE),
        (image_of(head().astype(np.complex64)), Reason.NOT_AN_IMAGE),
        (header_bytes(srow_z=np.zeros(4)), Reason.BAD_HEADER),
        (header_bytes(vox_offset=0), Reason.BAD_HEADER),
        (header_bytes(dim=[3, 30_000, 30_000, 30_000, 1, 1, 1, 1]), Reason.TOO_LARGE),
        (header_bytes(dim=[3, 512, 512, 60, 1, 1, 1, 1]), Reason.TRUNCATED_PIXELS),
        (gzip.compress(header_bytes(dim=[3, 512, 512, 60, 1, 1, 1, 1])), Reason.TRUNCATED_PIXELS),
    ],
)
def test_what_cannot_be_read_exactly_has_a_reason(
    made: nibabel.Nifti1Image | bytes, reason: Reason
) -> None:
    assert reason_of(made) == reason


def test_a_changed_byte_of_a_gzip_file_is_found() -> None:
    data = bytearray(gzip.compress(image_of(head()).to_bytes(), 0))
    data[-100] ^= 1
    assert reason_of(bytes(data)) == Reason.UNDECODABLE_PIXELS


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_the_bytes_a_file_is_read_or_refused(data: st.DataObject) -> None:
    original = bytearray(image_of(head()).to_bytes())
    places = data.draw(st.lists(st.integers(0, 351), min_size=1, max_size=8))
    for place in places:
        original[place] = data.draw(st.integers(0, 255))
    try:
        slices = LAYOUT.read_slices("ct/7.nii", bytes(original), NAMES)
    except InvalidExam:
        return
    assert slices


def shifted(x: float, y: float, z: float) -> np.ndarray:
    return np.array(AFFINE + np.array([[0, 0, 0, x], [0, 0, 0, y], [0, 0, 0, z], [0, 0, 0, 0]]))


@pytest.mark.parametrize(
    "mask",
    [
        image_of(marks(), shifted(3.0, 0.0, 0.0)),
        image_of(marks(), shifted(0.0, 0.0, 2.0)),
        image_of(marks(), shifted(0.0, 0.0, 5.0)),
        image_of(marks(), AFFINE @ np.diag([2.0, 2.0, 1.0, 1.0])),
        image_of(marks()[:, :9]),
        image_of(marks()[:, :, :3]),
        image_of(marks(), sform=0, qform=0),
        image_of(marks() * 0.5),
        image_of(head()),
    ],
    ids=["left", "between", "a slice up", "coarse", "rows", "slices", "no form", "half", "image"],
)
def test_a_mask_that_does_not_fit_its_image_is_refused(mask: nibabel.Nifti1Image) -> None:
    with pytest.raises(InvalidExam) as caught:
        masks_of(mask, read(image_of(head())))
    assert caught.value.reason == Reason.MASK_MISMATCH


def test_rounded_affines_still_fit() -> None:
    near = np.round(AFFINE + 0.0004, 3)
    assert np.array_equal(
        np.stack(masks_of(image_of(marks(), near), read(image_of(head())))), marks().T
    )


def test_mask_values_mean_what_the_corpus_says() -> None:
    mask = marks(3)
    mask[9, 1, 2] = 4
    slices = by_key(read(image_of(head())))
    read_mask = nifti.read_mask(image_of(mask).to_bytes(), codes={3: 5, 4: 1})
    found = nifti.masks_on(read_mask, slices)
    assert np.array_equal(
        np.stack([found[key] for key in slices]), np.select([mask == 3, mask == 4], [5, 1]).T
    )
    with pytest.raises(InvalidExam, match="does not name the value 4"):
        nifti.read_mask(image_of(mask).to_bytes(), codes={3: 5})
    # A scale of 1/255 is the values' own business.
    scaled = image_of(marks(255), slope=1 / 255, intercept=0.0)
    assert np.array_equal(np.stack(masks_of(scaled, list(slices.values()))), marks().T)
