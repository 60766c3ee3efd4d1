# assay: every target sets up what it needs; `make` alone lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed

EXP ?= digits
ARGS ?=
PROCS ?= 1
NNODES ?= 1
NODE_RANK ?= 0
RDZV ?=
LOGDIR ?= runs
RUN ?=
INPUT ?=
OUTPUT ?=
DEVICE ?= cpu
JOBS ?= 2

# Spinning OpenMP threads slow a shared machine down; albumentations queries the network for its newest version.
export OMP_WAIT_POLICY ?= passive
export NO_ALBUMENTATIONS_UPDATE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup list train check data evaluate predict export report tensorboard test test-long trackers test-trackers lint bench proofs \
	suite gpu lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP)  ## create the virtual environment; the other targets do so if needed

# uv, because pip 24.1 and newer refuse Catalyst's metadata.
$(SETUP): setup.cfg requirements.lock overrides.txt
	@echo "setting up $(VENV): about a minute, and 6 GB of disk"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "assay needs Python 3.11 to 3.13; this is $$($(PYTHON) --version): pass PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --overrides overrides.txt -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@# Catalyst's code warns when it is compiled; if Python cannot write bytecode later, each process would compile it all.
	@$(BIN)/python -W ignore -m compileall -qq -j0 $(VENV)/lib/python*/site-packages || true
	@touch $@

list: $(SETUP)  ## list the experiments
	@$(BIN)/assay list

# Several machines meet at RDZV, a port of the one with NODE_RANK=0, within five minutes.
LAUNCH = $(BIN)/python -m assay.runner.launch --nproc-per-node $(PROCS) $(if $(filter 1,$(NNODES)),--standalone,\
	--nnodes $(NNODES) --rdzv-backend c10d --rdzv-id assay --rdzv-endpoint $(RDZV) \
	--rdzv-conf read_timeout=300$(comma)is_host=$(if $(filter 0,$(NODE_RANK)),1,0)) -m assay.runner
comma := ,

train: $(SETUP)  ## train an experiment: EXP=digits ARGS="--epochs 3" PROCS=1; NNODES=2 NODE_RANK=0 RDZV=host:port
ifneq ($(NNODES),1)
	@test -n "$(RDZV)" || { echo "NNODES=$(NNODES) needs RDZV=host:port of the machine with NODE_RANK=0"; exit 2; }
endif
	@$(if $(filter-out 1,$(PROCS) $(NNODES)),$(LAUNCH),$(BIN)/assay) train $(EXP) $(ARGS)

check: $(SETUP)  ## say what is wrong with an experiment, without training it: EXP=digits ARGS="--data-dir DIR"
	@$(BIN)/assay check $(EXP) $(ARGS)

data: $(SETUP)  ## generate a small data set for an experiment: EXP=inria ARGS="--data-dir DIR"
	@$(BIN)/assay data $(EXP) $(ARGS)

evaluate: $(SETUP)  ## recompute metrics and pictures of a run: RUN=runs/digits/... ARGS="--loader valid" PROCS=1
	@test -n "$(RUN)" || { echo "make evaluate needs RUN=, a run folder"; exit 2; }
	@$(if $(filter-out 1,$(PROCS) $(NNODES)),$(LAUNCH),$(BIN)/assay) evaluate $(RUN) $(ARGS)

predict: $(SETUP)  ## predict images with a run: RUN=runs/digits/... INPUT="a.png folder" OUTPUT=DIR ARGS="--tta flips"
	@test -n "$(RUN)" -a -n "$(INPUT)" -a -n "$(OUTPUT)" || { echo "make predict needs RUN=, INPUT= and OUTPUT="; exit 2; }
	@$(BIN)/assay predict $(RUN) --input $(INPUT) --output $(OUTPUT) $(ARGS)

export: $(SETUP)  ## export the model of a run, and check the file: RUN=runs/digits/... ARGS="--format onnx"
	@test -n "$(RUN)" || { echo "make export needs RUN=, a run folder"; exit 2; }
	@$(BIN)/assay export $(RUN) $(ARGS)

report: $(SETUP)  ## make one HTML file about a run, or several side by side: RUN="runs/digits/... ..." ARGS="--output FILE"
	@test -n "$(RUN)" || { echo "make report needs RUN=, one or several run folders"; exit 2; }
	@$(BIN)/assay report $(RUN) $(ARGS)

tensorboard: $(SETUP)  ## look at the runs: LOGDIR=runs
	@$(BIN)/tensorboard --logdir $(LOGDIR) --samples_per_plugin images=200

# Empty is off: where it is set, each process that a test starts would compile assay anew.
test test-long: export PYTHONDONTWRITEBYTECODE =

test: $(SETUP)  ## run the quick tests: ARGS="-k grid" JOBS=2
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not long" $(ARGS)

test-long: $(SETUP)  ## run the long tests, each marked with its reason
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m long $(ARGS)

# In an environment of their own: Catalyst imports W&B and MLflow in every process where they are installed.
trackers:  ## test the W&B and MLflow loggers
	@$(MAKE) --no-print-directory VENV=.venv-trackers test-trackers

$(VENV)/.trackers: $(SETUP)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --overrides overrides.txt \
		--no-build-isolation --editable ".[trackers]"
	@touch $@

test-trackers: $(VENV)/.trackers
	@$(BIN)/python -m pytest tests/trackers $(ARGS)

lint: $(SETUP)  ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@mkdir -p build/types/assay && ln -sfn $(CURDIR)/callbacks $(CURDIR)/runner $(CURDIR)/experiments build/types/assay/
	@MYPYPATH=build/types $(BIN)/mypy

# Adds the peers to the locked packages and changes none of those.
$(VENV)/.bench: $(SETUP)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --overrides overrides.txt \
		--no-build-isolation --editable ".[bench]"
	@touch $@

bench: $(VENV)/.bench  ## measure what diagnostics cost, beside other libraries: DEVICE=cuda ARGS="overhead startup"
	@$(BIN)/python -m benchmarks --device $(DEVICE) $(ARGS)

# Trains each model for a minute or two, but not those that build/proofs already holds.
proofs: $(SETUP)  ## run the long proofs: long tests, pairs of callbacks, memory, wrong labels, boxes and masks, what Grad-CAM shows; ARGS="ViT Swin"
	@$(MAKE) --no-print-directory test-long ARGS=
	@$(BIN)/python -m proofs.callback_sweep
	@$(BIN)/python -m proofs.memory
	@$(BIN)/python -m proofs.wrong_labels
	@$(BIN)/python -m proofs.wrong_boxes
	@$(BIN)/python -m proofs.wrong_masks
	@$(BIN)/python -m proofs $(ARGS)

$(VENV)/.suite: $(SETUP)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --overrides overrides.txt \
		--no-build-isolation --editable ".[suite]"
	@touch $@

# Takes twice a quarter of an hour. It needs the sources, as the package has no tests: CATALYST=folder with tag v22.04.
suite: $(VENV)/.suite  ## run Catalyst's own tests with and without revive(): CATALYST=CHECKOUT
	@test -n "$(CATALYST)" || { echo "make suite needs CATALYST=, a folder with the sources of Catalyst v22.04"; exit 2; }
	@$(BIN)/python -m proofs.catalyst_suite $(CATALYST)

# Shows what only a GPU can show, in less than 8 minutes. DEVICE=cpu runs a small version, to check the command itself.
gpu: DEVICE = cuda
gpu: $(VENV)/.bench  ## run tests, benchmarks and experiments on a GPU: ARGS="tests classifier"
	@$(BIN)/python -m benchmarks.gpu --device $(DEVICE) $(if $(filter cpu,$(DEVICE)),--at-once 2) $(ARGS)

lock: $(SETUP)  ## compile requirements.lock from setup.cfg
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --extra catalyst --extra experiments \
		--extra dev --override overrides.txt --custom-compile-command "make lock" --output-file requirements.lock setup.cfg

clean:  ## remove the virtual environment and caches; runs stay
	rm -rf $(VENV) .venv-trackers build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
