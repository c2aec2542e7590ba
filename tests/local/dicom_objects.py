"""DICOM objects for the tests, made of nothing real."""

import io
from typing import Any

import highdicom
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

PREFIX = "1.2.826.0.1.3680043.10.999"


def ct_slice(number: int = 1, exam: str = "1", **changes: Any) -> FileDataset:
    """A slice of 8 x 6 pixels; a change of None removes the element."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{PREFIX}.{exam}.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": f"{PREFIX}.{exam}.{number}",
        "StudyInstanceUID": f"{PREFIX}.{exam}",
        "SeriesInstanceUID": f"{PREFIX}.{exam}.0",
        "FrameOfReferenceUID": f"{PREFIX}.{exam}.9",
        "PatientID": f"patient {exam}",
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19500101",
        "PatientSex": "",
        "StudyDate": "",
        "StudyTime": "",
        "StudyID": "",
        "AccessionNumber": "",
        "Manufacturer": "",
        "InstanceNumber": number,
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ImagePositionPatient": [0.0, 0.0, 5.0 * number],
        "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "PixelSpacing": [0.5, 0.25],
        "SliceThickness": 5.0,
        "Rows": 8,
        "Columns": 6,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "WindowCenter": [40, 400],
        "WindowWidth": [80, 2000],
        "PixelData": (1024 + number + np.arange(48, dtype="<i2")).tobytes(),
    }
    for name, value in {**values, **changes}.items():
        if value is not None:
            setattr(dataset, name, value)
    return dataset


def to_bytes(dataset: pydicom.Dataset) -> bytes:
    """Encode a data set as a file."""
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def segmentation(
    slices: list[FileDataset], masks: dict[str, np.ndarray], **changes: Any
) -> highdicom.seg.Segmentation:
    """A segmentation of one segment for each label."""
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Hemorrhage,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(masks, 1)
    ]
    made = highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=np.stack(list(masks.values()), axis=-1),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=f"{slices[0].StudyInstanceUID}.77",
        series_number=2,
        sop_instance_uid=f"{slices[0].StudyInstanceUID}.77.1",
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made
