"""Predictions of other software on the command line of `ich-ray evaluate`, turned into settings."""

import argparse
import json
import re
from pathlib import Path

from ich_ray.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9_-]+")
ALONE = ("identity=public", "store.root=out/evaluate/store")
"""What is needed without a settings file; exams are numbered, so that no pseudonym names one."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what names predictions and their truth."""
    parser.add_argument(
        "--predictions",
        action="append",
        default=[],
        metavar="[NAME=]PLACE",
        help="instead of this store's models, compare predictions of any software: a CSV or "
        "Parquet table, or a folder of NIfTI or DICOM SEG files; once for each model",
    )
    parser.add_argument(
        "--reference", metavar="PLACE", help="the truth of their exams, of the same kinds"
    )
    parser.add_argument(
        "--tuning-reference",
        metavar="PLACE",
        help="the truth of other exams, which fix thresholds and operating points",
    )


def to_overrides(options: argparse.Namespace) -> None:
    """Put the options among the overrides; without a settings file they are all there is.

    Raises:
        ConfigError: An option lacks its other, or two predictions have one name.
    """
    if not options.predictions:
        if options.reference or options.tuning_reference:
            raise ConfigError("--reference is the truth of --predictions: give both")
        return
    if options.settings is not None and "=" in options.settings:
        options.overrides.insert(0, options.settings)
        options.settings = None
    places: dict[str, str] = {}
    for given in options.predictions:
        name, place = named_place(given)
        if name in places:
            raise ConfigError(
                f"two --predictions are called {name}: write --predictions NAME=PLACE"
            )
        places[name] = place
    said = {f"evaluate.predictions.{name}": place for name, place in places.items()}
    for option in ("reference", "tuning_reference"):
        if getattr(options, option):
            said[f"evaluate.{option}"] = getattr(options, option)
    options.overrides = [
        *(ALONE if options.settings is None else ()),
        *(f"{key}={json.dumps(place, ensure_ascii=False)}" for key, place in said.items()),
        *options.overrides,
    ]


def named_place(given: str) -> tuple[str, str]:
    """Return name and place of predictions; a name that is not given is the file's own.

    >>> named_place("ours=s3://b/p.csv"), named_place("runs/nnU-Net v2.csv.gz")
    (('ours', 's3://b/p.csv'), ('nnU-Net_v2', 'runs/nnU-Net v2.csv.gz'))
    """
    name, equals, place = given.partition("=")
    if equals and NAME.fullmatch(name):
        return name, place
    stem = Path(given.rstrip("/")).name.partition(".")[0]
    return "_".join(NAME.findall(stem)) or "predictions", given
