"""A report that says nothing, to be changed by a test."""

from ich_ray.reporting.contents import Report

EMPTY = Report(
    title="Nothing yet",
    question="What does a report without results say?",
    models=(),
    differences=(),
    operating_points=(),
    paired_calls=(),
    patients=(0, 0),
    marked_patients=0,
    margins={},
    prevalence=0.5,
    further=None,
    resampled=None,
    over_trainings=None,
    calibration=(),
    lesions=(),
    surfaces=(),
    volumes=(),
    paper=None,
    pseudo_labels=None,
    gallery=(),
    corpora=(),
    ledger={},
    training={},
    methods=(),
    provenance={},
    settings={},
)
