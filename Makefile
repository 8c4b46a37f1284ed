# Everything a person types. Needs Python 3.11 and Java 17, nothing else.
PYTHON ?= python3.11
VENV   ?= .venv
BIN     = $(VENV)/bin
STAMP   = $(VENV)/.installed
PEERS   = .venv-pykeen
PYG     = .venv-pyg
IMPLICIT = .venv-implicit
RECBOLE = .venv-recbole
# e.g. PIP_FLAGS="--extra-index-url <an index with CPU wheels>": torch without CUDA
PIP_FLAGS ?=
PIP = --quiet --disable-pip-version-check
# what is not compiled yet stays compiled: where a container forbids it, every process compiles anew what it imports
export PYTHONDONTWRITEBYTECODE =
# Tools that look at images and charts: 400 MB, and no part of the pipeline.
DEPLOY  = .venv-deploy
IMAGES ?= reader jobs jobs-cuda airflow laptop
# as root in a container: STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot make images
BUILD_FLAGS ?=
REGISTRY ?=
VERSION  = $(shell sed -n 's/^version = //p' setup.cfg)
REVISION = $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
# of `make test`: the files that take longest come first
WORKERS ?= 2
CONFIG ?= jobs/configs/demo.yaml
DATES  ?=

.PHONY: $(shell grep -oE '^[a-z0-9-]+:' $(firstword $(MAKEFILE_LIST)) | tr -d :)

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24

install: $(STAMP)  ## what is missing, into .venv

demo: $(STAMP)  ## the demo log, three nights a week apart through Airflow, and what came out
	$(BIN)/python -m jobs.run_nights --config jobs/configs/demo.yaml --folder demo --generate

demo-all: $(STAMP)  ## the same with every family of models, minutes a night
	$(BIN)/python -m jobs.run_nights --config jobs/configs/demo_all_models.yaml --folder demo_all --generate

nightly: $(STAMP)  ## the nightly DAG for CONFIG=FILE and DATES=D1,D2,… (default: the configuration's own dates)
	$(BIN)/python -m jobs.run_nights --config "$(CONFIG)" --dates "$(DATES)"

test: $(STAMP) $(DEPLOY)/.installed  ## all tests, files of them in WORKERS processes at once
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-week: $(STAMP)  ## a week of a real scheduler: backfills both ways, clears, failures, requests; half an hour
	NOCTURNE_WHOLE_BACKFILL=1 $(BIN)/python -m pytest -q -x tests/dags/week.py tests/dags/nights_at_once.py \
		tests/dags/test_backfill.py

test-s3: $(STAMP)  ## the store on an S3 server at length: each request breaks in turn, 300 kills, two writers; half an hour
	$(BIN)/python -m pytest -q -s -x tests/feature_store/s3_at_length.py tests/feature_store/test_two_writers.py \
		tests/dags/s3_night.py tests/jobs/events/lake_nights_on_s3.py

lint: $(STAMP)  ## style
	$(BIN)/python -m ruff check .

bench-transe: $(STAMP) $(PEERS)/.installed  ## triples/s against PyKEEN
	$(BIN)/python -m tests.benchmarks.bench_transe

bench-rhgn: $(STAMP) $(PYG)/.installed  ## RHGN's layers against PyTorch Geometric's HGTConv on ml-1m
	$(BIN)/python -m tests.benchmarks.bench_rhgn

bench-ram-gnn: $(STAMP) $(PEERS)/.installed $(PYG)/.installed  ## RAM-GNN against PyKEEN's CompGCN and PyTorch Geometric's LightGCN
	$(BIN)/python -m tests.benchmarks.bench_ram_gnn

bench-hugt: $(STAMP) $(RECBOLE)/.installed  ## HUGT and our SASRec against RecBole's SASRec on ml-1m
	$(BIN)/python -m tests.benchmarks.bench_hugt

bench-relgnn: $(STAMP) $(PYG)/.installed  ## RelGNN's layers against PyTorch Geometric's RGATConv and RGCNConv, and what ASA costs
	$(BIN)/python -m tests.benchmarks.bench_relgnn

bench-store: $(STAMP)  ## the feature store against other readers
	$(BIN)/python -m tests.benchmarks.bench_store

bench-score: $(STAMP)  ## pairs of a user and a client scored a second, beside XGBoost's own margins
	$(BIN)/python -m tests.benchmarks.bench_score

bench-scale: $(STAMP)  ## a generated log of the paper's size, from events to published embeddings
	$(BIN)/python -m tests.benchmarks.bench_scale

bench-night: $(STAMP)  ## seconds of a demo night by stage, beside former figures
	$(BIN)/python -m tests.benchmarks.bench_night

paper-transe: $(STAMP)  ## TransE on FB15k-237
	$(BIN)/python -m tests.papers.paper_transe

paper-kqgc: $(STAMP)  ## table 3 of the KQGC paper, on two shops
	$(BIN)/python -m tests.papers.paper_kqgc

paper-lookalike: $(STAMP) $(IMPLICIT)/.installed  ## one classifier for all clients against one for each, on two shops; MODELS="transe kqgc_mean": their vectors alone
	$(BIN)/python -m tests.papers.paper_lookalike $(if $(MODELS),--models $(MODELS))

paper-lookalike-limits: $(STAMP)  ## what foretelling the next purchases could gain for the audiences; takes the vectors of paper-lookalike
	$(BIN)/python -m tests.papers.lookalike_limits

paper-vectors: $(STAMP) $(IMPLICIT)/.installed  ## what the published vectors are worth beside ALS and others, on three logs
	$(BIN)/python -m tests.papers.paper_vectors

tune-rhgn: $(STAMP) $(PYG)/.installed  ## eight trials for each model of paper-rhgn
	$(BIN)/python -m tests.papers.tune_rhgn

paper-rhgn: $(STAMP)  ## table 1 of the RHGN paper, on two data sets; needs the figures of the peers
	$(BIN)/python -m tests.papers.paper_rhgn

paper-rhgn-peers: $(STAMP) $(PYG)/.installed  ## the peers of paper-rhgn, on the same splits
	$(BIN)/python -m tests.papers.paper_rhgn --peers

paper-rhgn-behaviors: $(STAMP)  ## RHGN's second loss by weight: what it costs the labels and gives the vectors; goes on where it was
	$(BIN)/python -m tests.papers.paper_rhgn_behaviors

paper-rhgn-ablations: $(STAMP)  ## RHGN with a part taken away
	$(BIN)/python -m tests.papers.paper_rhgn --ablations

paper-ram-gnn: $(STAMP)  ## table III of the RAM-GNN paper on MovieLens 100K: MF-BPR, LightGCN, RAM-GNN, 5 seeds
	$(BIN)/python -m tests.papers.paper_ram_gnn

tune-ram-gnn: $(STAMP)  ## five trials for each model of paper-ram-gnn
	$(BIN)/python -m tests.papers.tune_ram_gnn

paper-ram-gnn-ablations: $(STAMP)  ## RAM-GNN with a part taken away or changed, and the path of its thresholds
	$(BIN)/python -m tests.papers.paper_ram_gnn --what ablations

paper-ram-gnn-ml1m: $(STAMP)  ## the three models of paper-ram-gnn on MovieLens 1M
	$(BIN)/python -m tests.papers.paper_ram_gnn --what ml-1m

paper-ram-gnn-cold: $(STAMP)  ## users with one to three events at two shops: RAM-GNN, MF-BPR, TransE, popularity; goes on where it was
	$(BIN)/python -m tests.papers.paper_ram_gnn_cold

paper-ram-gnn-init: $(STAMP)  ## RHGN and KQGC started from RAM-GNN against TransE; needs the figures of paper-rhgn; goes on where it was
	$(BIN)/python -m tests.papers.paper_ram_gnn_init

paper-relgnn: $(STAMP)  ## table 2 of the RelGNN paper on GATNE's Amazon graph, without and with ASA; goes on where it was
	$(BIN)/python -m tests.papers.paper_relgnn

paper-hugt: $(STAMP)  ## table 2 of the HUGT paper on MovieLens 1M, 3 seeds; goes on where it was
	$(BIN)/python -m tests.papers.paper_hugt $(if $(SEEDS),--seeds $(SEEDS))

paper-hugt-taobao: $(STAMP)  ## the same models on SSLRec's Taobao sample
	$(BIN)/python -m tests.papers.paper_hugt --what taobao $(if $(SEEDS),--seeds $(SEEDS))

paper-hugt-figure3: $(STAMP)  ## HUGT-MP with none to four of four heads sequential; SEEDS=1
	$(BIN)/python -m tests.papers.paper_hugt --what figure3 $(if $(SEEDS),--seeds $(SEEDS))

paper-hugt-table3: $(STAMP)  ## both kinds of heads in one block, or one kind after the other
	$(BIN)/python -m tests.papers.paper_hugt --what table3 $(if $(SEEDS),--seeds $(SEEDS))

paper-relgnn-samplers: $(STAMP)  ## table 3 and figures 2 and 3 of the RelGNN paper, on the Alibaba sample; goes on where it was
	$(BIN)/python -m tests.papers.paper_relgnn_samplers

stopping: $(STAMP)  ## TransE by epoch, cold and warm: what its early stopping is set by
	$(BIN)/python -m tests.papers.stopping

learned-inputs: $(STAMP)  ## RHGN from random inputs, frozen and learned
	$(BIN)/python -m tests.papers.learned_inputs

images: build-images  ## the images of docker/Dockerfile, by buildah, built and tried; IMAGES=reader for one, REGISTRY=registry.example.com/ before their names
	$(MAKE) check-images
	$(if $(filter reader,$(IMAGES)),$(if $(filter laptop,$(IMAGES)),$(MAKE) demo-in-image))

build-images:  ## the first step of `make images`
	set -e; for image in $(IMAGES); do \
	  buildah build $(BUILD_FLAGS) --format docker --file docker/Dockerfile --target $$image --build-arg VERSION=$(VERSION) \
	    --build-arg REVISION=$(REVISION) --tag $(REGISTRY)nocturne-$$image:$(VERSION) . ; done

check-images:  ## the second: starts every program of each of IMAGES
	set -e; for image in $(IMAGES); do \
	  one=$$(buildah from --pull-never $(REGISTRY)nocturne-$$image:$(VERSION)); \
	  buildah run $$one -- python -c "$$(cat docker/start_programs.py)" $$image || { buildah rm $$one; exit 1; }; \
	  buildah rm $$one > /dev/null; done

demo-in-image: $(STAMP)  ## the third: the demo in `laptop`, confined as a pod is, on an S3 server; DATES=D1,D2 for some nights; wants root
	$(BIN)/python -m tests.deploy.demo_in_image --registry "$(REGISTRY)" --version $(VERSION) --dates "$(DATES)"

clean:  ## what the demo and the nights left here (installed packages stay)
	rm -rf demo demo_all nightly build spark-warehouse metastore_db derby.log

# The stamp makes the second call instant; a changed list of packages installs again.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON): install Python 3.11 (Debian: apt install python3.11-venv), or name one with PYTHON=…" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP) $(PIP_FLAGS) -c constraints.txt -e '.[all]'
	touch $@

$(DEPLOY)/.installed: tests/deploy/constraints.txt
	test -x $(DEPLOY)/bin/python || $(PYTHON) -m venv $(DEPLOY)
	$(DEPLOY)/bin/python -m pip install $(PIP) $(PIP_FLAGS) -r tests/deploy/constraints.txt
	touch $@

# The peers of the benchmarks need other versions than ours: a room of their own.
$(PEERS)/.installed: tests/benchmarks/constraints-pykeen.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install $(PIP) $(PIP_FLAGS) -c tests/benchmarks/constraints-pykeen.txt pykeen
	touch $@

$(PYG)/.installed: tests/benchmarks/constraints-pyg.txt
	test -x $(PYG)/bin/python || $(PYTHON) -m venv $(PYG)
	$(PYG)/bin/python -m pip install $(PIP) $(PIP_FLAGS) -c tests/benchmarks/constraints-pyg.txt torch torch_geometric
	touch $@

$(RECBOLE)/.installed: tests/benchmarks/constraints-recbole.txt
	test -x $(RECBOLE)/bin/python || $(PYTHON) -m venv $(RECBOLE)
	$(RECBOLE)/bin/python -m pip install $(PIP) $(PIP_FLAGS) -c tests/benchmarks/constraints-recbole.txt recbole torch
	touch $@

$(IMPLICIT)/.installed: tests/benchmarks/constraints-implicit.txt
	test -x $(IMPLICIT)/bin/python || $(PYTHON) -m venv $(IMPLICIT)
	$(IMPLICIT)/bin/python -m pip install $(PIP) $(PIP_FLAGS) -c tests/benchmarks/constraints-implicit.txt implicit
	touch $@
