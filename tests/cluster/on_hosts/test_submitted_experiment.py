"""A family of variants as one job of a cluster of hosts, and its table where its user is."""

import json
import sys

from benchmarks.cluster_faults import WHOLE, Bench

FOLDS = [
    "models.teacher.validation.tuning=[]",
    "evaluate.tuning=[]",
    'models.teacher.labelled=["a:train", "a:tune"]',
    'models.student.labelled=["a:train", "a:tune"]',
    # Labelled patients are in the pool too: each is labelled by the teacher of the other fold.
    'pseudo_labels.pool.unlabelled=["b", "a:train", "a:tune"]',
    "experiment.teacher=teacher",
    "experiment.student=student",
    "experiment.pool=pool",
    'experiment.variants=["semi_supervised"]',
    "experiment.seeds=[0]",
    'experiment.folds=["a:train", "a:tune"]',
    'experiment.student_init=["teacher", "random"]',
    "models.teacher.num_workers=1",
    "models.teacher.steps=3",
    "models.student.steps=3",
]
ARMS = ["baseline", "semi_supervised", "semi_supervised-random"]


def test_a_submitted_family_is_found_done_by_its_user_and_has_his_table(hosts: Bench) -> None:
    root = "s3://ich/family"
    hosts.inside("copy", WHOLE, root, "train")
    code, said = hosts.submit(("experiment", *FOLDS), root)
    assert code == 0, said
    assert "experiment of 1 seeds: done" in said
    assert "train fold_1-0: 3 steps" in said
    # Over the store alone, wherever its keys are: every step is done, and Ray is not started.
    report = hosts.folder / "family"
    words = [
        *(sys.executable, "-m", "jobs", "experiment", str(hosts.folder / "faults.toml")),
        *(f"store.root={root}", f"store.endpoint_url={hosts.cluster.server.endpoint_url}"),
        *("cluster.lease_s=12.0", "models.teacher.checkpoint_every=10", *FOLDS),
        f"experiment.report={report}",
    ]
    refused = hosts.cluster.run(hosts.cluster.submitter, words)
    assert refused.returncode == 5, refused.stderr
    assert "NoCredentialsError" in refused.stderr.splitlines()[-1]
    own = hosts.cluster.run(hosts.cluster.head, words)
    assert own.returncode == 0, own.stdout + own.stderr
    assert "experiment of 1 seeds: up to date" in own.stdout
    rows = json.loads((report / "experiment.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ARMS
    assert all(row["figures"]["exam_auc"]["seeds"] == 1 for row in rows)
    seed = json.loads((report / "seed-0" / "report.json").read_text())
    assert set(seed["models"]) >= set(ARMS)
