"""Synthetic exams as DICOM: CT objects, a DICOM SEG object of the bleeds, and a table of labels."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import fsspec
import highdicom as hd
import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ich_ray.errors import ConfigError
from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.phantom import SITES, PhantomExam, make_exam
from ich_ray.phantom.exam import read_by, uid
from ich_ray.storage.outages import answered

DATE, TIME = "20000101", "120000"  # of every object: a phantom has no clock
MANIFEST, LABELS = "phantom.json", "labels.csv"
VERSION = 1  # of the pixels; raised when the same settings make other ones
COLUMNS = ("SOPInstanceUID", "any", *HEMORRHAGE_TYPES)


@dataclass(frozen=True, kw_only=True, slots=True)
class PhantomCorpus:
    """Which exams a folder of phantoms holds."""

    site: str
    """Key in `SITES`."""

    seed: int
    num_exams: int
    first_index: int = 0
    """Exams that arrive later have later indices, of the same site and seed."""

    matrix: int = 256
    """Rows and columns of a slice."""

    num_slices: int = 20
    labelled: bool = True
    """Whether the folder holds a table of labels and masks as DICOM SEG."""

    reader: int = 0
    """Whose outlines the masks have; 0: the truth."""

    def __post_init__(self) -> None:
        if self.site not in SITES:
            raise ConfigError(
                f"phantom: there is no site {self.site!r}; choose one of {', '.join(SITES)}"
            )
        if self.num_exams < 1 or self.first_index < 0:
            raise ConfigError(
                "phantom: need num_exams >= 1 and first_index >= 0, "
                f"got {self.num_exams} and {self.first_index}"
            )

    @property
    def indices(self) -> range:
        """Indices of the exams, to be shared among processes."""
        return range(self.first_index, self.first_index + self.num_exams)


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenExam:
    """What one exam left in the folder."""

    index: int
    files: tuple[str, ...]
    """Relative to the folder."""

    labels: tuple[tuple[str | int, ...], ...]
    """One row a slice, in the order of `COLUMNS`; none if the corpus is not labelled."""


def write_corpus(url: str, corpus: PhantomCorpus) -> int:
    """Write the exams of a corpus, unless they are there already.

    Args:
        url: Folder, as a path or as an fsspec URL. Its layout is `<exam>/<n>.dcm`, and if the
            corpus is labelled `<exam>/seg.dcm` for the exams that bleed, and `labels.csv`.
        corpus: What to write.

    Returns:
        Number of exams written; 0 if the folder's manifest says that the same ones are there.

    Raises:
        ConfigError: The folder holds another corpus.
    """
    if is_written(url, corpus):
        return 0
    write_manifest(url, corpus, write_exams(url, corpus, corpus.indices))
    return corpus.num_exams


def is_written(url: str, corpus: PhantomCorpus) -> bool:
    """Say whether the folder's manifest names this corpus.

    Raises:
        ConfigError: It names another one.
        SurroundingsError: The store does not answer, or refuses.
    """
    with answered(url, "read"):
        fs, root = fsspec.core.url_to_fs(url)
        path = f"{root}/{MANIFEST}"
        if not fs.exists(path):
            return False
        found = json.loads(fs.cat_file(path))["corpus"]
    if found != _describe(corpus):
        raise ConfigError(
            f"{url} holds another corpus of phantoms: {found}, not {_describe(corpus)}; "
            "choose another folder, or delete this one"
        )
    return True


def write_exams(url: str, corpus: PhantomCorpus, indices: Iterable[int]) -> list[WrittenExam]:
    """Write some exams of a corpus; a second run replaces the same files by the same bytes.

    Args:
        url: Folder, as a path or as an fsspec URL.
        corpus: What they are part of.
        indices: Which ones; disjoint sets can be written by several processes.

    Returns:
        What `write_manifest` needs once all are written.
    """
    fs, root = fsspec.core.url_to_fs(url)
    written = []
    for index in indices:
        truth = make_exam(
            SITES[corpus.site],
            seed=corpus.seed,
            index=index,
            matrix=corpus.matrix,
            num_slices=corpus.num_slices,
        )
        exam = read_by(truth, corpus.reader)
        files = []
        fs.makedirs(f"{root}/{exam.exam}", exist_ok=True)
        for name, content in dicom_objects(exam, with_mask=corpus.labelled):
            fs.pipe_file(f"{root}/{name}", content)
            files.append(name)
        labels = label_rows(exam) if corpus.labelled else ()
        written.append(WrittenExam(index=index, files=tuple(files), labels=labels))
    return written


def write_manifest(url: str, corpus: PhantomCorpus, written: Sequence[WrittenExam]) -> None:
    """Write the table of labels, and last the manifest by which a reader trusts the folder.

    Args:
        url: Folder, as a path or as an fsspec URL.
        corpus: What was written.
        written: One entry for each of its exams, in any order.

    Raises:
        ConfigError: Some of the exams were not written.
    """
    ordered = sorted(written, key=lambda exam: exam.index)
    missing = sorted(set(corpus.indices) - {exam.index for exam in ordered})
    if missing or len(ordered) != corpus.num_exams:
        raise ConfigError(
            f"{url}: of {corpus.num_exams} exams {len(ordered)} were handed over, and "
            f"{len(missing)} are missing (the first: {missing[:3]}); write each of them once "
            "before the manifest"
        )
    fs, root = fsspec.core.url_to_fs(url)
    files = [name for exam in ordered for name in exam.files]
    if corpus.labelled:
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row for exam in ordered for row in exam.labels)
        fs.pipe_file(f"{root}/{LABELS}", table.getvalue().encode())
        files.append(LABELS)
    manifest = {"corpus": _describe(corpus), "files": files}
    fs.pipe_file(f"{root}/{MANIFEST}", json.dumps(manifest, indent=1).encode())


def label_rows(exam: PhantomExam) -> tuple[tuple[str | int, ...], ...]:
    """Return one row of labels a slice, in the order of `COLUMNS`, from the exam's mask."""
    return tuple(
        (sop_uid, int(types.any()), *types.astype(int).tolist())
        for sop_uid, types in zip(exam.sop_uids, exam.subtypes, strict=True)
    )


def dicom_objects(exam: PhantomExam, *, with_mask: bool = True) -> Iterator[tuple[str, bytes]]:
    """Encode an exam as DICOM, the same bytes each time.

    Args:
        exam: What to encode.
        with_mask: Whether to add a DICOM SEG object if there is a bleed.

    Yields:
        Name relative to the corpus's folder, and content: one CT object a slice, then the SEG.

    Source: DICOM PS3.3 A.3 (CT Image IOD), A.51 (Segmentation IOD).
    """
    images = [_ct_image(exam, number) for number in range(len(exam.stored))]
    for number, image in enumerate(images, start=1):
        yield f"{exam.exam}/{number:03d}.dcm", _encode(image)
    if with_mask and exam.mask.any():
        yield f"{exam.exam}/seg.dcm", _encode(_segmentation(exam, images))


def _describe(corpus: PhantomCorpus) -> dict[str, Any]:
    """Name all that decides the bytes of a corpus."""
    said = asdict(corpus)
    if corpus.reader == 0:
        # Folders that were written before there were readers hold the truth.
        del said["reader"]
    return {"version": VERSION, **said}


def _ct_image(exam: PhantomExam, number: int) -> Dataset:
    """Build the CT object of one slice."""
    site, image = exam.site, Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, exam.sop_uids[number]
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = DATE
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = TIME
    image.AccessionNumber, image.Modality = "", "CT"
    image.Manufacturer, image.ManufacturerModelName = site.manufacturer, "Phantom"
    image.ReferringPhysicianName = image.PatientBirthDate = image.PatientSex = ""
    image.StudyDescription, image.SeriesDescription = "CT HEAD PLAIN", "CT PLAIN 5MM"
    image.PatientName, image.PatientID = f"Phantom^{exam.patient}", exam.patient
    image.BodyPartExamined, image.SliceThickness = "HEAD", exam.thickness_mm
    image.KVP, image.GantryDetectorTilt = 120, exam.tilt_deg
    image.ConvolutionKernel, image.PatientPosition = site.kernel, "HFS"
    image.StudyInstanceUID, image.SeriesInstanceUID = exam.study_uid, exam.series_uid
    image.StudyID, image.SeriesNumber, image.AcquisitionNumber = "1", 1, 1
    image.InstanceNumber = number + 1
    image.ImagePositionPatient = [_decimal(value) for value in exam.positions_mm[number]]
    image.ImageOrientationPatient = [_decimal(value) for value in exam.orientation]
    image.FrameOfReferenceUID = uid(exam.exam, "frame of reference")
    image.PositionReferenceIndicator = ""
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = exam.stored.shape[1:]
    image.PixelSpacing = [_decimal(value) for value in exam.spacing_mm]
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = int(site.signed)
    image.WindowCenter, image.WindowWidth = 40, 80
    image.RescaleIntercept, image.RescaleSlope = exam.intercept, exam.slope
    image.RescaleType = "HU"
    image.PixelData = exam.stored[number].astype(exam.stored.dtype.newbyteorder("<")).tobytes()
    return _with_meta(image)


def _segmentation(exam: PhantomExam, images: list[Dataset]) -> Dataset:
    """Build the SEG object: one segment for each type of bleed that the exam holds."""
    present = np.flatnonzero(exam.subtypes.any(axis=0))
    whose = (exam.exam, *((f"reader {exam.reader}",) if exam.reader else ()))
    planes = np.stack([exam.mask == code + 1 for code in present], axis=-1).astype(np.uint8)
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=HEMORRHAGE_TYPES[code],
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Hemorrhage,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, code in enumerate(present, start=1)
    ]
    segmentation = hd.seg.Segmentation(
        source_images=images,
        pixel_array=planes,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=uid(*whose, "segmentation series"),
        series_number=2,
        sop_instance_uid=uid(*whose, "segmentation"),
        instance_number=1,
        manufacturer=exam.site.manufacturer,
        manufacturer_model_name="Phantom",
        software_versions=str(VERSION),
        device_serial_number="1",
        content_label="BLEEDS",
        omit_empty_frames=True,
    )
    # The library fills these from the clock and from a random generator.
    for element in segmentation.iterall():
        if element.keyword == "DimensionOrganizationUID":
            element.value = uid(exam.exam, "dimensions")
        elif element.VR == "DA" and element.value:
            element.value = DATE
        elif element.VR == "TM" and element.value:
            element.value = TIME
        elif element.VR == "DT" and element.value:
            element.value = DATE + TIME
    return segmentation


def _with_meta(image: Dataset) -> Dataset:
    """Add the file meta information of an object that is not compressed."""
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def _decimal(value: float) -> str:
    """Write a number into the 16 characters of a Decimal String (DS)."""
    return f"{value:.8f}"[:16]


def _encode(image: Dataset) -> bytes:
    """Return the object as a DICOM file."""
    buffer = io.BytesIO()
    dcmwrite(buffer, image, enforce_file_format=True)
    return buffer.getvalue()
