"""The tiny experiment as a family of two variants and two seeds, through the command line."""

import shutil
from pathlib import Path

from tests.cluster.tiny_experiment import settings_text

EXPERIMENT = """
[experiment]
teacher = "teacher"
student = "student"
pool = "pool"
variants = ["baseline", "semi_supervised"]
seeds = [0, 1]
report = "ROOT/family"
"""
TINY = ("models.teacher.num_workers=1", "models.teacher.steps=3", "models.student.steps=3")


def prepared(root: Path, finished: Path, *, store_of: Path | None = None) -> Path:
    shutil.copytree((store_of or finished) / "store", root / "store")
    text = settings_text(root) + EXPERIMENT.replace("ROOT", str(root))
    text = text.replace(f"{root}/dicom", f"{finished}/dicom")
    (root / "settings.toml").write_text(text)
    return root


def words(root: Path, *more: str) -> list[str]:
    return ["experiment", str(root / "settings.toml"), *TINY, *more]
