"""What the CLAIM 2024 checklist asks of a study: its 44 items, in our words.

Source: Tejani et al., Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024
Update, Radiology: Artificial Intelligence 6 (2024) e240300, doi:10.1148/ryai.240300. Numbers,
sections and subjects are the checklist's; its own wording stands there.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to report."""

    number: int
    section: str
    topic: str
    to_write: str
    """What a person writes, where a run knows nothing of it."""

    beside: str = ""
    """What is left for a person, where it does; empty: nothing."""


ITEMS = (
    Item(
        1,
        "Title",
        "Named as a study of artificial intelligence, and of which kind",
        "Say in the title or abstract that this is a study of deep learning.",
    ),
    Item(
        2,
        "Abstract",
        "Summary of design, methods, results and conclusions",
        "Write the abstract.",
    ),
    Item(
        3,
        "Introduction",
        "Background, intended use and role of the method",
        "Say why this matters, for whom the method is meant, and what it would do in care.",
    ),
    Item(
        4,
        "Introduction",
        "Aims, objectives and hypotheses",
        "State aim and hypotheses.",
        "the hypotheses, and the smallest difference that matters",
    ),
    Item(
        5,
        "Methods: study design",
        "Prospective or retrospective",
        "Say whether exams were collected before or after the study was planned.",
    ),
    Item(
        6,
        "Methods: study design",
        "Goal of the study",
        "Say what the study is: a new method, feasibility, superiority, non-inferiority.",
    ),
    Item(
        7,
        "Methods: data",
        "Sources of the data",
        "Name the sources of the exams.",
        "links and licences, sites and years, and how far the exams are like those of the "
        "intended use",
    ),
    Item(
        8,
        "Methods: data",
        "Criteria of inclusion and exclusion",
        "Say which patients and exams were eligible, where and when.",
        "by which criteria patients came into the sources",
    ),
    Item(
        9,
        "Methods: data",
        "Preprocessing",
        "Say what was done to the images before a model saw them.",
        "what was done to them before this system read them",
    ),
    Item(
        10,
        "Methods: data",
        "Selection of parts of the data",
        "Say whether only some slices, series or regions of an exam were used, and how they were "
        "chosen.",
    ),
    Item(
        11,
        "Methods: data",
        "De-identification",
        "Say how exams were de-identified.",
        "how the sources were de-identified, with text inside the images, and under which rules",
    ),
    Item(
        12,
        "Methods: data",
        "Missing data",
        "Say which data were missing and what was done about it.",
        "missing labels and clinical data, and what their absence may bias",
    ),
    Item(
        13,
        "Methods: data",
        "How the images were acquired",
        "Give scanners, protocols, slice thickness and reconstruction.",
    ),
    Item(
        14,
        "Methods: reference standard",
        "How the reference standard is defined",
        "Define what counts as hemorrhage, for exams, slices and pixels.",
        "how those who made the labels and masks came to them",
    ),
    Item(
        15,
        "Methods: reference standard",
        "Why this reference standard",
        "Say why it was chosen, which others exist, and where it may err.",
    ),
    Item(
        16,
        "Methods: reference standard",
        "Who annotated",
        "Give number, qualification and training of the annotators, or the publication that does.",
    ),
    Item(
        17,
        "Methods: reference standard",
        "How the test set was annotated",
        "Give instructions and software of the annotation of the test exams, and what annotators "
        "knew.",
    ),
    Item(
        18,
        "Methods: reference standard",
        "Variability between and within annotators",
        "Give how far annotators agree, and how disagreement was resolved.",
    ),
    Item(
        19,
        "Methods: partitions",
        "How data were assigned to partitions",
        "Say what was for training, tuning and testing, and how it was assigned.",
        "why this assignment, and how the partitions differ",
    ),
    Item(
        20,
        "Methods: partitions",
        "Level at which partitions are disjoint",
        "Say whether partitions share patients, or sites.",
        "whether a patient may have several identifiers in the sources, and whether sites are "
        "shared",
    ),
    Item(
        21,
        "Methods: testing data",
        "Intended sample size",
        "Say how many test exams were planned, and what difference so many can show.",
    ),
    Item(
        22,
        "Methods: model",
        "Description of the model",
        "Describe inputs, outputs and layers.",
        "layers and connections, or the publication that gives them",
    ),
    Item(
        23,
        "Methods: model",
        "Software",
        "Name software and versions.",
        "versions of libraries, and the hardware",
    ),
    Item(
        24,
        "Methods: model",
        "Initialisation of parameters",
        "Say what the weights were at the start.",
        "the distribution of random weights, or what given weights were trained on",
    ),
    Item(
        25,
        "Methods: training",
        "Details of the training",
        "Give augmentation, optimizer, hyperparameters and when training stopped.",
        "which hyperparameters were tried, and how they were searched",
    ),
    Item(
        26,
        "Methods: training",
        "How the final model was chosen",
        "Say how the tested weights were chosen among all that were trained.",
        "trainings that are not in this report",
    ),
    Item(
        27,
        "Methods: training",
        "Ensembles",
        "Say whether several models were combined, and how.",
    ),
    Item(
        28,
        "Methods: evaluation",
        "Metrics of performance",
        "Name the metrics.",
        "why these metrics suit the clinical task",
    ),
    Item(
        29,
        "Methods: evaluation",
        "Measures of significance and uncertainty",
        "Say how intervals and tests were made.",
    ),
    Item(
        30,
        "Methods: evaluation",
        "Robustness or sensitivity",
        "Show how results change with other assumptions, settings, seeds or subgroups.",
    ),
    Item(
        31,
        "Methods: evaluation",
        "Explainability or interpretability",
        "Describe methods that explain results and how they were validated, or say that there are "
        "none.",
    ),
    Item(
        32,
        "Methods: evaluation",
        "Evaluation on internal data",
        "Say which test exams are from the sources of the training, and how performance differs "
        "from training.",
    ),
    Item(
        33,
        "Methods: evaluation",
        "Testing on external data",
        "Say which test exams are from sources without a part in the training, or why there are "
        "none.",
    ),
    Item(
        34,
        "Methods: evaluation",
        "Registration as a clinical trial",
        "Give the registration, or say that this is no trial.",
    ),
    Item(
        35,
        "Results: data",
        "Patients or exams included and excluded",
        "Count them, with a flow chart.",
        "patients and exams that were left out before they came into the sources",
    ),
    Item(
        36,
        "Results: data",
        "Demographic and clinical characteristics by partition",
        "Give age, sex, kinds of hemorrhage and other characteristics of each partition.",
    ),
    Item(
        37,
        "Results: performance",
        "Performance and its uncertainty",
        "Give the performance of the final model on all data.",
        "subgroups, and a comparison with readers or current practice",
    ),
    Item(
        38,
        "Results: performance",
        "Diagnostic performance and its precision",
        "Give sensitivity and specificity, or a ROC analysis, with intervals.",
    ),
    Item(
        39,
        "Results: performance",
        "Analysis of failures",
        "Show and discuss wrong results.",
        "why the models fail there, and what it would mean for a patient",
    ),
    Item(
        40,
        "Discussion",
        "Limitations",
        "Discuss biases, uncertainty and what the results cannot be generalised to.",
    ),
    Item(
        41,
        "Discussion",
        "Implications for practice",
        "Discuss intended use and clinical role.",
    ),
    Item(
        42,
        "Other information",
        "Full protocol, or further technical details",
        "Refer to the protocol or to technical details.",
        "a reference to the protocol of the study",
    ),
    Item(
        43,
        "Other information",
        "Availability of software, model and data",
        "Say where software, weights and data can be had, and under which licence.",
    ),
    Item(
        44,
        "Other information",
        "Funding, and the role of funders",
        "Name funding, support and what funders had to do with the study.",
    ),
)
