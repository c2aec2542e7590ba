# `make demo` and `make test` do everything from a fresh clone; CI calls the same targets.
PYTHON ?= python3.11
STORE ?= local
OUT ?= out
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo demo-real test test-others test-unit test-local test-cluster test-real test-gpu \
	test-labels test-faults test-hosts check format schema \
	image-check bench-phantom bench-codecs bench-ingest bench-speed bench-hostile bench-mutated \
	bench-kills bench-planning bench-cluster bench-scaling bench-faults bench-train bench-ctich \
	bench-few-labels \
	bench-device bench-pseudo-label bench-evaluate bench-evaluate-scale experiment-phantoms reproduce \
	pack-ctich cluster-up cluster-down clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	# torch first: what else needs it then finds the pinned build.
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# The schema of report.json, from the dataclasses that it is made of.
schema: $(READY)
	$(BIN)/python -m ich_ray.reporting.record > $@.tmp && mv $@.tmp ich_ray/reporting/report.schema.json

demo: $(READY)
ifeq ($(STORE),s3)
	$(BIN)/python -m jobs.local_s3 $(OUT)/demo-s3/server ich-ray -- \
	  $(BIN)/ich-ray demo experiments/demo.toml store.root=s3://ich-ray/store \
	  phantoms.site_a.folder=s3://ich-ray/dicom/site-a corpora.site_a.source=s3://ich-ray/dicom/site-a \
	  phantoms.site_b.folder=s3://ich-ray/dicom/site-b corpora.site_b.source=s3://ich-ray/dicom/site-b \
	  phantoms.site_c.folder=s3://ich-ray/dicom/site-c corpora.site_c.source=s3://ich-ray/dicom/site-c \
	  cluster.cache=$(OUT)/demo-s3/cache evaluate.report=$(OUT)/demo-s3/report
else
	$(BIN)/ich-ray demo experiments/demo.toml store.root=$(OUT)/demo/store \
	  phantoms.site_a.folder=$(OUT)/demo/dicom/site-a corpora.site_a.source=$(OUT)/demo/dicom/site-a \
	  phantoms.site_b.folder=$(OUT)/demo/dicom/site-b corpora.site_b.source=$(OUT)/demo/dicom/site-b \
	  phantoms.site_c.folder=$(OUT)/demo/dicom/site-c corpora.site_c.source=$(OUT)/demo/dicom/site-c \
	  cluster.cache=$(OUT)/demo/cache evaluate.report=$(OUT)/demo/report
endif

demo-real: $(READY)
ifndef ICH_RAY_REAL_DATA
	$(error set ICH_RAY_REAL_DATA to the folder that holds ct-ich-v1 and rsna)
endif
	$(BIN)/ich-ray demo experiments/demo_real.toml store.root=$(OUT)/demo-real/store \
	  cluster.cache=$(OUT)/demo-real/cache evaluate.report=$(OUT)/demo-real/report \
	  corpora.ct_ich.source=$(ICH_RAY_REAL_DATA)/ct-ich-v1 \
	  corpora.rsna_slices.source=$(ICH_RAY_REAL_DATA)/rsna/stage_2_train \
	  corpora.rsna_slices.labels=$(ICH_RAY_REAL_DATA)/rsna/stage_2_train.csv \
	  corpora.rsna_exam.source=$(ICH_RAY_REAL_DATA)/rsna/stage_2_test

# Variants of the paper on synthetic heads: those of the settings file over five seeds; the others, a
# second round and random starts with one; then, to tell why, as many pseudo-labelled slices positive
# as bleed in the labelled corpus. Two hours on two cores. It resumes.
PHANTOMS := experiments/lin2022_phantoms.toml
REPORT := experiment.report=out/lin2022-phantoms
experiment-phantoms: $(READY)
	$(BIN)/ich-ray experiment $(PHANTOMS)
	$(BIN)/ich-ray experiment $(PHANTOMS) 'experiment.seeds=[0]' $(REPORT)/others \
	  'experiment.variants=["soft", "image_slice_oracle", "pixel_oracle"]'
	$(BIN)/ich-ray experiment $(PHANTOMS) 'experiment.seeds=[0]' $(REPORT)/rounds \
	  'experiment.variants=["semi_supervised"]' experiment.rounds=2 \
	  'experiment.student_init=["teacher", "random"]'
	$(BIN)/ich-ray experiment $(PHANTOMS) $(REPORT)/by_prevalence \
	  'experiment.variants=["semi_supervised"]' 'pseudo_labels.pool.prevalence_of=["site_a:train"]'

# Every table of the paper on synthetic heads, one seed: half an hour on two cores. It resumes.
reproduce: $(READY)
	$(BIN)/ich-ray reproduce lin2022

# All but test-faults and test-hosts, two at a time: what shares one Ray, all else, and what becomes
# of predictions, on a Ray of its own.
test: $(READY)
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going \
	  test-cluster test-others test-labels

test-cluster: $(READY)
	$(BIN)/pytest tests/cluster --ignore=tests/cluster/faults --ignore=tests/cluster/on_hosts \
	  --ignore=tests/cluster/labels

test-labels: $(READY)
	$(BIN)/pytest tests/cluster/labels

test-others: $(READY)
	$(BIN)/pytest tests ich_ray --ignore=tests/cluster

# Stages that are killed, stopped by the budget, or meet each other. Most of it is starting again.
test-faults: $(READY)
	$(BIN)/pytest tests/cluster/faults

# Submitters, attacks, and a fault in each stage, on a cluster of hosts; needs root, on Linux.
test-hosts: $(READY)
	$(BIN)/pytest tests/cluster/on_hosts

test-unit: $(READY)
	$(BIN)/pytest tests/unit ich_ray

test-local test-real test-gpu: test-%: $(READY)
	$(BIN)/pytest tests/$*

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The image's install lines in a fresh environment: minutes. TORCH_INDEX names another torch index.
image-check: $(READY)
	ICH_RAY_IMAGE_CHECK=1 $(BIN)/pytest tests/local/test_cluster_image.py

bench-phantom: $(READY)
	$(BIN)/python -m benchmarks.phantom_realism

bench-codecs: $(READY)
	$(BIN)/python -m benchmarks.pixel_codecs

# All measures of ingest, one after the other: hours; each of them resumes, and has its own target.
bench-ingest: $(READY)
	$(BIN)/python -m benchmarks.ingest

bench-speed: $(READY)
	$(BIN)/python -m benchmarks.ingest_speed

bench-hostile: $(READY)
	$(BIN)/python -m benchmarks.hostile_dicom

bench-mutated: $(READY)
	$(BIN)/python -m benchmarks.mutated_dicom

bench-kills: $(READY)
	$(BIN)/python -m benchmarks.ingest_kills

bench-planning: $(READY)
	$(BIN)/python -m benchmarks.ingest_planning

# Both measures of the cluster of hosts, one after the other: hours; the faults resume.
bench-cluster: $(READY)
	$(BIN)/python -m benchmarks.cluster

bench-scaling: $(READY)
	$(BIN)/python -m benchmarks.cluster_scaling

bench-faults: $(READY)
	$(BIN)/python -m benchmarks.cluster_faults

# A step under Ray Train against plain torchrun, and with the real loader against a mock.
bench-train: $(READY)
	$(BIN)/python -m benchmarks.train_speed

# Five folds by patient on real CT-ICH: half an hour on two cores; MINUTES, of all trainings, instead
# of the steps in the experiment. INFERENCE=windows predicts with the same models by windows.
bench-ctich: $(READY)
	$(BIN)/python -m benchmarks.ct_ich_folds $(if $(MINUTES),--minutes $(MINUTES)) \
	  $(if $(INFERENCE),--inference $(INFERENCE)) --out $(OUT)/bench/ct_ich

# Teachers and students on real CT-ICH with 5, 10 and 20 labelled patients, three seeds: an hour
# and a half on two cores. It resumes.
bench-few-labels: $(READY)
	$(BIN)/python -m benchmarks.few_labels --out $(OUT)/bench/few_labels

# CT-ICH in one file of at most 40 MiB, for a machine that has numpy and torch alone.
pack-ctich: $(READY)
	$(BIN)/python -m benchmarks.pack_ctich --work $(OUT)/bench/ct_ich --out $(OUT)/pack/ct_ich.npz

# A step of lin2022 on a GPU against its limit and plain loops; short runs on what pack-ctich wrote.
bench-device: $(READY)
	$(BIN)/python -m benchmarks.train_device --pack $(OUT)/pack/ct_ich.npz --out $(OUT)/bench/train_device

# The pool against a plain loop, a GPU's limit, a hundred million scores, killed actors (resumes).
bench-pseudo-label: $(READY)
	$(BIN)/python -m benchmarks.pseudo_label

bench-evaluate: $(READY)
	$(BIN)/python -m benchmarks.evaluate

# Seconds and memory of an evaluation of 1,000, 5,000 and 25,000 exams; it resumes.
bench-evaluate-scale: $(READY)
	$(BIN)/python -m benchmarks.evaluate_scale --out $(OUT)/bench/evaluate_scale

# A head, two workers, an S3 server and a submitter in network namespaces; needs root, on Linux.
cluster-up: $(READY)
	$(BIN)/python -m jobs.local_cluster up $(OUT)/hosts

cluster-down: $(READY)
	$(BIN)/python -m jobs.local_cluster down $(OUT)/hosts

clean:
	rm -rf out .venv
