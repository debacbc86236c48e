# One command from clone to comparison table: `make repro`. Every target does its own set-up.
# PYTHONHASHSEED stays unset on purpose: no output may depend on the order of a set, and fixing it here alone would
# hide that from everyone who runs `dvc repro` without make.

EXPERIMENT ?= smollm2-rtp
PYTHON ?= python3.11
PORT ?= 5000
SEED ?= 0
A ?=
B ?=
METHOD ?=
PLOTS ?= show
N ?= 20
JOBS ?= 3
WORKERS ?= 2
REPORT = reports/$(EXPERIMENT)/index.html

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
# The stamp carries the checksum of the lock and is written last: an interrupted installation leaves none and a
# changed lock asks for another, and both start again from an empty .venv.
STAMP := .venv/installed-$(shell cksum < requirements.txt | tr ' ' '-')
# The peer of `make bench-ppo` lives apart: TRL 1.9.2, the last with PPO.
TRL_STAMP := .venv-trl/installed-$(shell cat benchmarks/requirements-trl.txt 2> /dev/null | cksum | tr ' ' '-')

export PATH := $(CURDIR)/$(BIN):$(PATH)
# DVC keeps pickles there (CVE-2025-69872) and makes the folder for everyone; stages see to it too, but begin after DVC.
_ := $(shell chmod -f 700 .dvc-state)
# A DVC that is killed while it remembers a run leaves an empty folder, on which every later `dvc repro` fails. One that
# is younger may be another DVC's at work.
FORGET_HALF_RUNS = if [ -d .dvc/cache/runs ]; then find .dvc/cache/runs -type d -empty -mmin +1 -delete; fi

export MLFLOW_DISABLE_TELEMETRY := true
export TOKENIZERS_PARALLELISM := false

.PHONY: help setup repro train train-upstream dag report plots diff export plan pin ui \
  verify track test test-slow torture check format clean bench-ppo bench-sampling bench-statistics audit lock

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24
	@echo "EXPERIMENT=<name> chooses a file of experiments/ (now: $(EXPERIMENT))"

setup: $(STAMP) ## make .venv from the locked requirements.txt (the other targets do this themselves)
	@# `dvc exp run --queue` works in other folders, where the relative path of .dvc/config leads nowhere.
	@[ ! -e .git ] || grep -qsF "= $(CURDIR)/.dvc-state" .dvc/config.local \
	  || $(BIN)/dvc config --local core.site_cache_dir "$(CURDIR)/.dvc-state"

$(STAMP):
	@command -v $(PYTHON) > /dev/null || { \
	  echo "$(PYTHON) not found: install Python 3.11 (Debian: apt install python3.11 python3.11-venv) or pass PYTHON=/path/to/it" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "expected Python 3.11, got $$($(PYTHON) --version): the lock is for 3.11 only; pass PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	  echo "$(PYTHON) has no venv module: install it (Debian: apt install python3.11-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements.txt
	@touch $@

repro: $(STAMP) ## rebuild what changed for EXPERIMENT, then print its comparison table
	@$(BIN)/python -m pipeline.apps.roster add $(EXPERIMENT)
	@$(FORGET_HALF_RUNS)
	$(BIN)/dvc repro evaluate@$(EXPERIMENT)
	@$(MAKE) --no-print-directory $(REPORT)
	@$(BIN)/python -m pipeline.apps.table $(EXPERIMENT)

# `dvc repro` runs one stage at a time. `repro -s` checks nothing upstream: that comes first, and a full repro last.
# Passive: threads of several trainings on few cores would otherwise burn them waiting for each other.
train: train-upstream ## the same with all trainings at once: make train [JOBS=3]
	$(BIN)/python -m pipeline.apps.roster entries train $(EXPERIMENT) | tr ' ' '\n' \
	  | OMP_WAIT_POLICY=passive xargs -n 1 -P $(JOBS) $(BIN)/dvc --wait-for-lock repro -s
	@$(FORGET_HALF_RUNS)
	$(BIN)/dvc repro evaluate@$(EXPERIMENT)
	@$(MAKE) --no-print-directory $(REPORT)
	@$(BIN)/python -m pipeline.apps.table $(EXPERIMENT)

train-upstream: $(STAMP)
	@$(BIN)/python -m pipeline.apps.roster add $(EXPERIMENT)
	@$(FORGET_HALF_RUNS)
	entries=$$($(BIN)/python -m pipeline.apps.roster entries preferences $(EXPERIMENT)); $(BIN)/dvc repro $$entries

dag: $(STAMP) ## write dvc.yaml from stages/, and what params.yaml's lists come to; after adding code, a seed or a method
	$(BIN)/python -m pipeline.apps.dag

report: $(STAMP) ## write reports/EXPERIMENT/index.html and its figures anew from what is on disk
	$(BIN)/python -m pipeline.apps.report $(EXPERIMENT)

# The evaluate stage writes it too; where its result came from DVC's cache, nothing has.
$(REPORT): metrics/$(EXPERIMENT)/evaluation.json | $(STAMP)
	$(BIN)/python -m pipeline.apps.report $(EXPERIMENT)

plots: $(STAMP) ## draw DVC's plots as one page that works offline: make plots [PLOTS="diff HEAD~1"]
	$(BIN)/python -m pipeline.apps.report.dvc_plots $(PLOTS)

diff: $(STAMP) ## what changed between two commits, and what of it beyond noise: make diff A=HEAD~1 [B=...] [FORMAT=--markdown]
	@[ -n "$(A)" ] || { echo "diff: expected A=<commit>, as in make diff A=HEAD~1" >&2; exit 2; }
	@$(BIN)/python -m pipeline.apps.diff $(A) $(B) $(FORMAT)

export: $(STAMP) ## write a policy as one merged Hugging Face folder: make export METHOD=sft [SEED=0]
	@[ -n "$(METHOD)" ] || { echo "export: expected METHOD=reference or a method, such as sft" >&2; exit 2; }
	$(BIN)/python -m pipeline.apps.export $(EXPERIMENT) $(METHOD) --seed $(SEED)

plan: $(STAMP) ## estimate parameters, memory and hours of EXPERIMENT, without downloading weights
	@$(BIN)/python -m pipeline.apps.plan $(EXPERIMENT)

pin: $(STAMP) ## print the commits and hashes that EXPERIMENT leaves to fill, as the hub gives them now
	@$(BIN)/python -m pipeline.apps.pin $(EXPERIMENT)

ui: $(STAMP) ## compare runs in MLflow on http://127.0.0.1:PORT (5000)
	@case "$${MLFLOW_TRACKING_URI:-}" in http*) echo "MLFLOW_TRACKING_URI names a server: open it in a browser"; exit;; esac; \
	export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false; \
	$(BIN)/python -m pipeline.apps.track; \
	echo "runs: http://127.0.0.1:$(PORT)/#/experiments?workflowType=machine_learning"; \
	exec $(BIN)/mlflow server --host 127.0.0.1 --port $(PORT) --workers 1 \
	  --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}" \
	  --default-artifact-root "file://$(CURDIR)/mlartifacts" --no-serve-artifacts

verify: $(STAMP) ## hash every input and output against dvc.lock, compare packages, recompute the metrics
	@$(BIN)/python -m pipeline.apps.verify

track: $(STAMP) ## rebuild missing MLflow runs from what is on disk
	$(BIN)/python -m pipeline.apps.track

# Tests of one file stay in one process, whose fixtures they share; more threads would only wait for each other.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

test: $(STAMP) ## run the tests, without network: make test [WORKERS=2]
	$(PYTEST) -m "not slow"

test-slow: $(STAMP) ## run the tests that take long: make test-slow [WORKERS=2]
	$(PYTEST) -m slow

torture: $(STAMP) ## kill 3 x N trainings five times each and count what is lost: make torture N=20
	$(BIN)/python -m tests.smoke.torture $(N)

check: $(STAMP) ## style, types, and whether dvc.yaml is current: ruff, mypy, make dag
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pipeline.apps.dag --check

format: $(STAMP) ## let ruff put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: $(STAMP) ## remove outputs that no roster names (DVC's cache keeps them)
	@$(BIN)/python -m pipeline.apps.clean

bench-ppo: $(STAMP) $(TRL_STAMP) ## measure our PPO against TRL 1.9.2's, in an environment of its own (20 minutes)
	$(BIN)/python -m benchmarks.ppo

bench-sampling: $(STAMP) ## measure our sampler against model.generate
	$(BIN)/python -m benchmarks.sampling

bench-statistics: $(STAMP) ## measure the bootstrap: 10,000 resamples of 4 policies x 200 prompts x 25 samples
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.statistics

audit: $(STAMP) ## recompute docs/seed-audit.md: what the numbers of the two seeds can tell
	$(BIN)/python -m benchmarks.seed_audit

$(TRL_STAMP): | $(STAMP)
	$(PYTHON) -m venv --clear .venv-trl
	.venv-trl/bin/python -m pip install --disable-pip-version-check --requirement benchmarks/requirements-trl.txt
	@touch $@

lock: ## make requirements.txt and env.json anew from requirements.in
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --disable-pip-version-check --requirement requirements.in
	.venv-lock/bin/python -m pip check
	{ echo "# Complete lock of requirements.in for Python 3.11; made by \`make lock\`, not by hand."; \
	  .venv-lock/bin/python -m pip freeze --all --local --exclude pip | sed 's/+cpu$$//'; } > requirements.txt.tmp
	mv requirements.txt.tmp requirements.txt
	.venv-lock/bin/python -m pipeline.apps.environment
	rm -rf .venv-lock
