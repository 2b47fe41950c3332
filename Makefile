# Every target sets up what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?=
RUNS ?= runs
FULL := results/standins
# For `make score`: where the report goes unless one says so.
OUTPUT ?= $(RUNS)/score

# The official benchmark, for `make algoperf`. A local checkout: ALGOPERF_SOURCE=file:///path/to/it
ALGOPERF_SOURCE ?= git+https://github.com/mlcommons/algorithmic-efficiency@2c90454fc05d5bdf3598b0c7651e611f132a7060
TORCH ?= 2.5.1
TORCHVISION ?= 0.20.1
CHECKOUT := .algorithmic-efficiency
# For `make imagenet`: the one that goes with the torch of requirements.txt.
IMAGENET_TORCHVISION := 0.28.0

WORKLOADS := mnist_vit,flights_dlrm,stdlib_lm
ENTRIES := shampoo,adamw,nadamw
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup lint format test reproduce reproduce-full score figures notebooks targets points benchmark algoperf data official package reference-tests imagenet clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## build .venv if it is missing or older than requirements.txt

$(STAMP): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, $$($(PYTHON) --version) was found; set PYTHON=/path/to/it" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint  ## lint, then all tests (under 15 minutes on 2 cores, no downloads)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

reproduce: $(STAMP)  ## Shampoo against AdamW on three stand-ins, best points, 3 studies, plots (minutes)
	$(BIN)/python -m scripts.study --workloads=$(WORKLOADS) --entries=shampoo,adamw --studies=3 \
	  --first_study=3 --trials=best --best_from=$(FULL)/report/points.csv $(if $(JOBS),--jobs=$(JOBS)) --output=$(RUNS)/reproduce
	$(BIN)/python -m analysis.report --logs=$(RUNS)/reproduce --output=$(RUNS)/reproduce/report

reproduce-full: $(STAMP)  ## all five points of all entries (about 45 minutes on 2 cores)
	$(BIN)/python -m scripts.study --workloads=$(WORKLOADS) --entries=$(ENTRIES) --studies=3 \
	  --trials=all $(if $(JOBS),--jobs=$(JOBS)) --output=$(RUNS)/reproduce-full
	$(BIN)/python -m analysis.report --logs=$(RUNS)/reproduce-full --output=$(RUNS)/reproduce-full/report

score: $(STAMP)  ## judge logs: LOGS=DIR_OR_TABLE [OUTPUT=DIR VERSION=v0.6 RULESET=external BASELINE=nadamw PUBLISHED=1]
	@test -n "$(LOGS)" || { echo "error: say which logs: make score LOGS=path/to/logs" >&2; exit 2; }
	$(BIN)/python -m analysis.report --logs="$(LOGS)" --output="$(OUTPUT)" $(if $(VERSION),--version=$(VERSION)) \
	  $(if $(RULESET),--ruleset=$(RULESET)) $(if $(BASELINE),--baseline=$(BASELINE)) $(if $(PUBLISHED),--compare_published)

figures: $(STAMP)  ## draw the committed full study's report anew, in results/standins/report
	$(BIN)/python -m analysis.report --logs=$(FULL) --output=$(FULL)/report

notebooks: $(STAMP)  ## run the notebooks in analysis/ anew (a minute)
	$(BIN)/python -m analysis.notebook

targets: $(STAMP)  ## set the stand-ins' targets anew from AdamW, NAdamW and Nesterov SGD (about 35 minutes)
	$(BIN)/python -m scripts.tune --mode=targets --trials=10 --seeds=5 $(if $(JOBS),--jobs=$(JOBS))

points: $(STAMP)  ## choose each entry's five points anew by quasi-random search (about 30 minutes)
	$(BIN)/python -m scripts.tune --mode=search --workloads=$(WORKLOADS) --entries=$(ENTRIES) --trials=8 \
	  --ranges=workloads/standin/entry_search_spaces.json $(if $(JOBS),--jobs=$(JOBS)) --output=$(RUNS)/search
	$(BIN)/python -m scripts.tune --mode=points --entries=$(ENTRIES) --search=$(RUNS)/search/search.csv \
	  --ranges=workloads/standin/entry_search_spaces.json --output=workloads/standin/points

benchmark: $(STAMP)  ## time a step of ours and of what rivals are installed, CPU (about 10 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m scripts.benchmark.step --networks=small_200k,vit_s16,resnet50 \
	  --threads=1 --output=$(RUNS)/step_cost
	OMP_NUM_THREADS=1 $(BIN)/python -m scripts.benchmark.step --staggering --threads=1 --output=$(RUNS)/step_cost

algoperf: requirements-algoperf.txt  ## build .venv-algoperf and the checkout .algorithmic-efficiency of the official benchmark
	@case '$(ALGOPERF_SOURCE)' in \
	  file://*) test ! -e $(CHECKOUT) || test -L $(CHECKOUT) || { echo "error: $(CHECKOUT) is there already; remove it to use $(ALGOPERF_SOURCE)" >&2; exit 2; }; \
	    ln -sfn '$(patsubst file://%,%,$(ALGOPERF_SOURCE))' $(CHECKOUT);; \
	  git+*@*) source='$(patsubst git+%,%,$(ALGOPERF_SOURCE))'; if test -L $(CHECKOUT); then rm $(CHECKOUT); fi; \
	    { test -d $(CHECKOUT) || git clone --quiet "$${source%@*}" $(CHECKOUT); } && git -C $(CHECKOUT) checkout --quiet "$${source##*@}";; \
	  *) echo "error: ALGOPERF_SOURCE=$(ALGOPERF_SOURCE): give git+URL@COMMIT or file:///path/to/a/checkout" >&2; exit 2;; esac
	@test -f $(CHECKOUT)/submission_runner.py || { echo "error: no submission_runner.py in $(CHECKOUT), from $(ALGOPERF_SOURCE)" >&2; exit 2; }
	test -x .venv-algoperf/bin/python || $(PYTHON) -m venv .venv-algoperf
	.venv-algoperf/bin/python -m pip install --quiet torch==$(TORCH)
	.venv-algoperf/bin/python -m pip install --quiet --no-deps torchvision==$(TORCHVISION)
	ALGOPERF_SOURCE='file://$(abspath $(CHECKOUT))' .venv-algoperf/bin/python -m pip install --quiet --requirement requirements-algoperf.txt

data: $(STAMP)  ## data of an official workload: WORKLOAD=ogbg DATA=~/data [CHECK=1 DRY_RUN=1 TEMP=DIR ACCEPT_LICENCE=1 DATA_FLAGS="more flags"]
	@test -n "$(WORKLOAD)" && test -n "$(DATA)" || \
	  { echo "error: say which and where: make data WORKLOAD=ogbg DATA=~/data" >&2; exit 2; }
	$(if $(DRY_RUN),@)$(BIN)/python -m scripts.official.data --workload="$(WORKLOAD)" --data_dir="$(DATA)" $(if $(CHECK),--check) \
	  $(if $(DRY_RUN),--dry_run) $(if $(TEMP),--temp_dir="$(TEMP)") $(if $(ACCEPT_LICENCE),--accept_licence) $(DATA_FLAGS)

official: $(STAMP)  ## an entry on an official workload: WORKLOAD=NAME ENTRY=NAME_OR_PATH [STUDY=0 TRIAL=1 GPUS=8 DATA=~/data RUNS=runs DRY_RUN=1 OFFICIAL="more flags"]
	@test -n "$(WORKLOAD)" -a -n "$(ENTRY)" || { echo "error: say which: make official WORKLOAD=imagenet_resnet ENTRY=shampoo" >&2; exit 2; }
	$(if $(DRY_RUN),@)$(BIN)/python -m scripts.official --workload="$(WORKLOAD)" --entry="$(ENTRY)" --experiment_dir="$(RUNS)/official" \
	  $(if $(STUDY),--study=$(STUDY)) $(if $(TRIAL),--trial=$(TRIAL)) $(if $(GPUS),--gpus=$(GPUS)) $(if $(DATA),--data_dir="$(DATA)") \
	  $(if $(DRY_RUN),--dry_run) $(OFFICIAL)

package: $(STAMP)  ## write an entry for MLCommons: ENTRY=shampoo [OUTPUT=dist AUTHORS="A, B" AFFILIATIONS=…]
	@test -n "$(ENTRY)" || { echo "error: say which entry: make package ENTRY=shampoo" >&2; exit 2; }
	$(BIN)/python -m scripts.package_entry --entry="$(ENTRY)" --output="$(if $(filter file,$(origin OUTPUT)),dist,$(OUTPUT))" \
	  $(if $(AUTHORS),--authors="$(AUTHORS)") $(if $(AFFILIATIONS),--affiliations="$(AFFILIATIONS)")

reference-tests: $(STAMP)  ## the benchmark's own test of every entry on every workload, CPU [PACKAGED=dist WORKLOADS=…]
	$(BIN)/python -m scripts.reference_tests $(if $(PACKAGED),--packaged="$(PACKAGED)") \
	  $(if $(filter file,$(origin WORKLOADS)),,--workloads="$(WORKLOADS)")

imagenet: $(STAMP)  ## ResNet-50 on ImageNet, outside AlgoPerf: CONFIG=shampoo (then sgd) DATA=DIR [GPUS=8 SEED=0], or SMOKE=1 on a CPU
	@test -n "$(CONFIG)" -a -n "$(DATA)$(SMOKE)" || { echo "error: say what and on which images: make imagenet CONFIG=shampoo DATA=path/to/imagenet" >&2; exit 2; }
	$(if $(SMOKE),,$(BIN)/python -m pip install --quiet --no-deps torchvision==$(IMAGENET_TORCHVISION))
	$(BIN)/python -m scripts.imagenet --config="$(CONFIG)" $(if $(SMOKE),--smoke,--data_dir="$(DATA)") \
	  $(if $(GPUS),--nproc=$(GPUS)) $(if $(SEED),--seed=$(SEED)) --output=$(RUNS)/imagenet$(if $(SMOKE),_smoke)

clean:  ## remove the environments and caches; results stay
	rm -rf $(VENV) .venv-algoperf .mypy_cache .ruff_cache .pytest_cache .hypothesis
