"""Sources that are no folder of DICOM alone: zip archives, NIfTI volumes, NIfTI masks on DICOM."""

import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import ich_ray.distributed.ingest as stage
from ich_ray.config import CorpusConfig, NiftiConfig, Settings, StoreConfig
from ich_ray.distributed.ingest import ingest, plan_ingest
from ich_ray.errors import ConfigError
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.ingest_summary import IngestSummary
from ich_ray.storage import corpus, ledger
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import read_rows
from tests.local.dicom_objects import ct_slice, to_bytes
from tests.local.nifti_corpora import write_ct_ich

pytestmark = pytest.mark.usefixtures("ray_cluster")

NAMES = Pseudonyms(PUBLIC_KEY)
KAGGLE = "rsna-intracranial-hemorrhage-detection"
TYPES = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")

MASK_AFFINE = np.diag([-0.25, -0.5, 5.0, 1.0])
"""Of the slices of `ct_slice`: 6 columns, 8 rows, from z = 0 up."""


@pytest.fixture(autouse=True)
def _revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "code_revision", lambda: "test")


def settings_of(source: str, store: Store, **changes: Any) -> Settings:
    config = CorpusConfig(**{"layout": "folder", "source": source, "slices_per_part": 4, **changes})
    return Settings(
        store=StoreConfig(root=store.root, endpoint_url=store.endpoint_url), corpora={"c": config}
    )


def run(settings: Settings) -> IngestSummary:
    return ingest(settings, "c", pseudonyms=NAMES, ensure_ray=lambda: None)


def rows_of(store: Store) -> list[dict[str, Any]]:
    rows = read_rows(store, corpus.open_corpus(store, "c").table).to_pylist()
    kept = [{k: v for k, v in row.items() if k not in ("source", "etag")} for row in rows]
    return sorted(kept, key=lambda row: (row["exam"], row["index"]))


def rejected(store: Store) -> dict[str, str | None]:
    entries = ledger.entries_of(ledger.open_ledger(store, "c").rows)
    return {e.source: e.reason for e in entries if e.outcome == "rejected"}


def write_rsna(root: Path) -> None:
    """The competition's folders: three training slices, one test slice, the labels beside them."""
    rows = ["ID,Label"]
    for number in (1, 2, 3, 4):
        name = f"ID_{number}"
        folder = root / ("stage_2_test" if number == 4 else "stage_2_train")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.dcm").write_bytes(to_bytes(ct_slice(number, SOPInstanceUID=name)))
        if number < 4:
            bleeds = number == 2
            rows += [f"{name}_{t},{int(bleeds and t in ('any', 'subdural'))}" for t in TYPES]
    # Its object cannot be read: rejected, and its label not missing.
    (root / "stage_2_train" / "ID_9.dcm").write_bytes(b"no DICOM")
    rows += [f"ID_9_{t},0" for t in TYPES]
    (root / "stage_2_train.csv").write_text("\n".join(rows))


def zipped(folder: Path, path: Path) -> Path:
    """A folder as Kaggle packs it: below one folder of its own."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            made.write(file, f"{KAGGLE}/{file.relative_to(folder)}")
    return path


# RSNA's identifiers are no UIDs: ID_0123456.
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_kaggles_archive_is_read_where_it_lies(tmp_path: Path, s3_store: Store) -> None:
    write_rsna(tmp_path / "rsna")
    plain = Store(str(tmp_path / "plain"))
    options = {"layout": "rsna", "max_rejected_share": 0.5}
    summary = run(settings_of(str(tmp_path / "rsna"), plain, **options))
    assert (summary.accepted_slices, summary.labelled_slices) == (4, 3)
    assert summary.rejected == {"not_dicom": 1}
    archive = zipped(tmp_path / "rsna", tmp_path / "rsna.zip")
    s3_store.write_bytes(s3_store.url("zip", "rsna.zip"), archive.read_bytes())
    for number, source in enumerate((str(archive), s3_store.url("zip", "rsna.zip"))):
        store = Store(str(tmp_path / f"store{number}"), s3_store.endpoint_url)
        settings = settings_of(source, store, **options)
        again = run(settings)
        assert again.rejected == summary.rejected
        assert again.labelled_slices == 3
        assert rows_of(store) == rows_of(plain)
        assert run(settings).up_to_date
    # A path within the archive finds the labels beside it.
    store = Store(str(tmp_path / "train"))
    source = f"{archive}/{KAGGLE}/stage_2_train"
    assert run(settings_of(source, store, **options)).labelled_slices == 3


def test_volumes_become_a_corpus_and_grow(tmp_path: Path) -> None:
    write_ct_ich(tmp_path / "all")
    source = tmp_path / "source"
    nifti = NiftiConfig(
        image="ct_scans/{patient}.nii",
        mask="masks/{patient}.nii",
        prefix="ct-ich/",
        labels="ct_ich",
    )
    store = Store(str(tmp_path / "store"))
    settings = settings_of(str(source), store, layout="nifti", nifti=nifti, slices_per_part=4)
    for name in ("ct_scans/066.nii", "masks/066.nii", "hemorrhage_diagnosis_raw_ct.csv"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((tmp_path / "all" / name).read_bytes())
    assert plan_ingest(settings, "c", NAMES).new_objects == 3
    first = run(settings)
    assert (first.accepted_slices, first.labelled_slices, first.accepted_masks) == (4, 4, 1)
    assert first.rejected == {"missing": 1}  # the volume of the other patient
    assert run(settings).up_to_date
    for name in ("ct_scans/049.nii", "masks/049.nii"):
        (source / name).write_bytes((tmp_path / "all" / name).read_bytes())
    second = run(settings)
    assert (second.version, second.accepted_slices, second.labelled_slices) == (1, 4, 4)
    rows = rows_of(store)
    assert [row["label"] for row in rows].count(True) == 2
    assert all(row["mask"] is not None for row in rows)
    assert not {"ct-ich", "049"} & set(str(rejected(store)).split("'"))
    other = NiftiConfig(image="ct_scans/{patient}.nii")
    with pytest.raises(ConfigError, match="ingested from the layout nifti-"):
        run(settings_of(str(source), store, layout="nifti", nifti=other))


def save_mask(path: Path, *, first: int = 1, shift: float = 0.0) -> None:
    """A mask of three slices whose middle one is marked, stored from the head down."""
    mask = np.zeros((6, 8, 3), np.uint8)
    mask[1, 2:5, 1] = 3
    affine = MASK_AFFINE.copy()
    affine[:3, 3] = (shift, 0.0, 5.0 * first)
    made = nibabel.Nifti1Image(mask, affine)
    ornt = nibabel.orientations.axcodes2ornt(tuple("RPI"))
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), ornt)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(made.as_reoriented(turn), path)


def write_exam(folder: Path, exam: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in (1, 2, 3):
        (folder / f"{number}.dcm").write_bytes(to_bytes(ct_slice(number, exam)))


def test_nifti_masks_lie_on_the_dicom_beside_them(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_exam(source / "p1" / "dicom", "1")
    save_mask(source / "p1" / "mask.nii.gz")
    write_exam(source / "p2", "2")
    save_mask(source / "p2" / "masks" / "a.nii")
    write_exam(source / "p3", "3")
    save_mask(source / "p3" / "displaced.nii", shift=3.0)
    save_mask(source / "both.nii")
    store = Store(str(tmp_path / "store"))
    meaning = NiftiConfig(mask_values={"3": "subdural"})
    summary = run(settings_of(str(source), store, max_rejected_share=0.5, nifti=meaning))
    assert (summary.accepted_slices, summary.accepted_masks) == (9, 2)
    assert rejected(store) == {
        NAMES.of("p3/displaced.nii"): "mask_mismatch",
        NAMES.of("both.nii"): "mask_without_slice",  # whose?
    }
    expected = np.zeros((8, 6), np.uint8)
    expected[2:5, 1] = 5
    for row in rows_of(store):
        if row["patient"] == NAMES.of("patient 3"):
            assert (row["mask"], row["label"]) == (None, None)
        else:
            marked = row["position_mm"] == 10.0
            assert row["mask"] == (expected if marked else 0 * expected).tobytes()
            assert row["label"] == marked


def test_templates_find_the_masks_of_a_tree_of_their_own(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for exam in ("1", "2"):
        write_exam(source / "images" / f"e{exam}" / "series", exam)
    save_mask(source / "masks" / "e2.nii.gz")
    save_mask(source / "masks" / "e3.nii.gz")
    save_mask(source / "notes.nii.gz")
    store = Store(str(tmp_path / "store"))
    templates = NiftiConfig(image="images/{exam}", mask="masks/{exam}.nii.gz")
    run(settings_of(str(source), store, max_rejected_share=0.5, nifti=templates))
    assert rejected(store) == {
        NAMES.of("masks/e3.nii.gz"): "mask_without_slice",
        NAMES.of("notes.nii.gz"): "unknown_file",
    }
    masked = {row["patient"] for row in rows_of(store) if row["mask"] is not None}
    assert masked == {NAMES.of("patient 2")}
