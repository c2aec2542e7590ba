"""How the figures of several models on the same patients vary together, from patient to patient."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Integer

from ich_ray.statistics import roc
from ich_ray.statistics.comparison import Exams, Metric, Predicted, patient_influences
from ich_ray.statistics.studentized import rounded

Covariance = Float64[np.ndarray, "model model"]


def auc_covariance(
    scores: Sequence[Float64[np.ndarray, " exam"]] | Float64[np.ndarray, "model exam"],
    labels: Bool[np.ndarray, " exam"],
    *,
    patient: Integer[np.ndarray, " exam"] | None = None,
) -> tuple[Float64[np.ndarray, " model"], Covariance]:
    """Return the AUC of each model, and DeLong's covariance of all of them.

    Args:
        scores: Of each model, one score per exam.
        labels: True for a positive exam.
        patient: Number of each exam's patient; each exam is of another patient if absent.

    Raises:
        QualityError: Fewer than two patients have an exam of a class, or a score is NaN.

    Source: DeLong et al. 1988; patients with several exams: Obuchowski 1997.

    >>> of_one, of_all = auc_covariance(
    ...     [np.array([0.1, 0.4, 0.4, 0.8]), np.array([0.4, 0.1, 0.4, 0.8])],
    ...     np.array([False, False, True, True]),
    ... )
    >>> of_all
    array([[0.03125, 0.     ],
           [0.     , 0.03125]])
    """
    found = [roc.patient_shares(one, labels, patient=patient) for one in scores]
    added = np.array([one.added for one in found])
    num_patients = added.shape[2]
    # Products in a fixed order, whatever the number of threads: no matrix product.
    products = np.einsum("mcp,ndp->cdmn", added, added)
    of_positive, of_negative = (count / (count - 1) for count in found[0].counts)
    both = num_patients / (num_patients - 1)
    covariance = (
        of_positive * products[0, 0]
        + of_negative * products[1, 1]
        + both * (products[0, 1] + products[1, 0])
    )
    return np.array([one.mean for one in found]), covariance


def influence_covariance(
    influences: Float64[np.ndarray, "model patient"],
    strata: Integer[np.ndarray, " patient"],
) -> Covariance:
    """Return the covariance of figures from what each patient adds to them, to first order.

    Args:
        influences: Derivative of each model's figure by each patient's weight.
        strata: Stratum of each patient; one of a single patient adds nothing.

    Returns:
        To 6 digits, as `studentized.stratified_errors`, whose squares lie on the diagonal.

    Source: Davison and Hinkley 1997, 2.7.2 (nonparametric delta method), 3.2 (strata).

    >>> influence_covariance(np.array([[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]]), np.zeros(3, np.int64))
    array([[ 3., -3.],
           [-3.,  3.]])
    """
    covariance = np.zeros((len(influences), len(influences)))
    for stratum in np.unique(strata):
        here = influences[:, strata == stratum]
        size = here.shape[1]
        if size < 2:
            continue
        centred = here - here.mean(axis=1, keepdims=True)
        covariance += size / (size - 1) * np.einsum("mp,np->mn", centred, centred)
    return rounded(covariance)


def figures_and_covariance(
    exams: Exams, models: Mapping[str, Predicted], metric: Metric
) -> tuple[Float64[np.ndarray, " model"], Covariance]:
    """Return a metric of each model, in their order, and its covariance over patients.

    NaN where fewer than two patients have a positive pixel, of pixel metrics.

    Raises:
        QualityError: Fewer than two patients have an exam of a class.
    """
    if metric == "exam_auc":
        scores = [model.scores for model in models.values()]
        return auc_covariance(scores, exams.labels, patient=exams.patient)
    found = [patient_influences(model, metric) for model in models.values()]
    estimates = np.array([estimate for estimate, _ in found])
    return estimates, influence_covariance(np.array([one for _, one in found]), exams.strata)
