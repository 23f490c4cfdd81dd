# Every command a developer needs. `make` alone prints them.
#
# Tools come from .venv, which `setup` makes with pip from a hashed list (uv is needed only to renew that
# list). Programs of the test cluster come from pinned Go modules and are kept in .cache (or FALLOW_CACHE).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HARNESS := $(BIN)/python -m e2e.harness
# What is generated from the models in operator/fallow/api and committed.
GENERATED := crds charts/fallow/crds docs/reference/kinds.md
# one process a core; a file's tests stay together, since they may share an expensive beginning, and files come in their
# order: by the number of their tests those of a few long ones would come last, and one process wait for another
SIDE_BY_SIDE := --numprocesses auto --dist loadfile --no-loadscope-reorder
# compiled modules and tests are kept there, whatever this machine is used to: to compile all tests takes seconds
COMPILED := PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX="$(CURDIR)/.cache/compiled"
LOCK := --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

say = @printf '\033[1m==> %s\033[0m\n' "$(1)"

.PHONY: help setup lock crds docs format lint types imports unit generated verify build test bench demo clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make test T=e2e/scenarios/test_harness.py   some tests only"
	@echo "  make demo KEEP=1                            leave the cluster up afterwards"

setup: $(STAMP) ## make .venv with every tool and the command .venv/bin/fallow

$(STAMP): requirements/dev.txt pyproject.toml
	$(call say,setup: $(VENV) from requirements/dev.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; say which with: make setup PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { echo "python3 cannot make a virtual environment: install python3-venv"; exit 2; }
	$(BIN)/python -m pip install --disable-pip-version-check --no-input --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .
	@touch $@

lock: $(STAMP) ## renew requirements/*.txt from pyproject.toml (needs uv)
	@uv=$$(command -v uv || command -v $(BIN)/uv) || { echo "uv is missing: pip install uv"; exit 2; }; \
	for list in run dev; do \
		printf '\033[1m==> lock: requirements/%s.txt\033[0m\n' "$$list"; \
		group=""; if [ "$$list" = dev ]; then group="--group dev"; fi; \
		"$$uv" pip compile --quiet $(LOCK) pyproject.toml $$group -o "requirements/$$list.txt"; \
	done

crds: $(STAMP) ## write CRDs and the reference page from the models
	$(call say,crds: CRDs and docs/reference/kinds.md from operator/fallow/api)
	@$(BIN)/python -m fallow.api.generate crds docs

docs: crds ## the same: the reference page comes with the CRDs

format: $(STAMP) ## format the code
	$(call say,format: ruff)
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

lint: $(STAMP) ## formatting and ruff's rules
	$(call say,lint: ruff format and ruff check)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(STAMP) ## mypy, strict
	$(call say,types: mypy --strict (half a minute without its cache))
	@$(BIN)/mypy

imports: $(STAMP) ## the import contracts
	$(call say,imports: lint-imports)
	@$(BIN)/lint-imports

unit: $(STAMP) ## tests that need no cluster and no patience
	$(call say,unit: pytest without a cluster)
	@$(COMPILED) $(BIN)/python -m pytest tests -m "not cluster and not long" $(SIDE_BY_SIDE)

generated: crds ## fail when regenerated CRDs or docs differ from the committed ones
	$(call say,generated: compared with git)
	@git --no-pager diff --exit-code --stat -- $(GENERATED) \
		|| { echo "generated files differ from the committed ones: commit what make crds wrote"; exit 1; }
	@new=$$(git ls-files --others --exclude-standard -- $(GENERATED)); \
	test -z "$$new" || { echo "generated files are not in git: $$new"; exit 1; }

verify: lint types imports unit generated ## all checks that need no cluster; before every push

build: $(STAMP) ## build the test cluster's programs (once; some 12 minutes on 2 cores)
	$(call say,build: the test cluster's programs)
	@$(HARNESS) build

test: build ## every test, on a real API server with simulated nodes
ifeq ($(T),)
	@$(MAKE) unit
	$(call say,test: what takes long)
	@$(BIN)/python -m pytest tests -m long $(SIDE_BY_SIDE)
	$(call say,test: what needs a cluster, in a network namespace of its own)
	@$(HARNESS) exec -- $(BIN)/python -m pytest -m cluster
else
	$(call say,test: pytest in a network namespace of its own)
	@$(HARNESS) exec -- $(BIN)/python -m pytest $(T)
endif

demo: build ## the whole story live, in about five minutes (KEEP=1 leaves the cluster up)
	$(call say,demo: GPUs are simulated; everything else is real)
	@$(HARNESS) exec -- $(BIN)/python -m e2e.demo

bench: $(STAMP) ## the scoreboard of all controllers (QUICK=1: some minutes; TRACE=FILE.csv: Azure's format)
	$(call say,bench: every controller on the same traces)
	@$(BIN)/python -m bench.scoreboard $(if $(QUICK),--quick) $(if $(TRACE),--trace "$(TRACE)") $(BENCH)

clean: ## remove .venv, caches and built programs
	$(call say,clean: .venv .cache and tool caches)
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
