# Everything that is done with a checkout. Needs make, Python 3.11 or newer and pip; the rest goes into .venv/.
# `make help` lists the targets; ARGS="…" is passed on to the program that a target runs.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The Python that .venv is made with; by default the first of these that is 3.11 or newer.
PYTHON ?=
PYTHONS := python3.11 python3 python3.12 python3.13 python3.14
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# A folder that does not exist is left out, so that a part of the tree can be checked on its own.
PACKAGES := $(wildcard jce tars_protocol registry)
CODE := $(PACKAGES) $(wildcard image tests benchmarks)

# Stamps: a file each for what is in .venv, so that a repeat does nothing.
VENV_MADE := $(VENV)/.stamp-made
RUN_READY := $(VENV)/.stamp-run
DEV_READY := $(VENV)/.stamp-dev

# Where a venv has no pip of its own (see below), the pip of the Python that made it installs into it.
PIP = $$( [ -x $(BIN)/pip ] && echo $(BIN)/python -m pip || echo $$(cat $(VENV_MADE)) -m pip --python $(BIN)/python ) \
	--disable-pip-version-check --no-input

.PHONY: help
help: ## Show this list
	@echo 'tars-registry: the registry of the TARS RPC framework, for Kubernetes'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  ARGS="…" is passed on: make test ARGS="-k frames", make run ARGS="--help".'
	@echo '  PYTHON=… names the Python that .venv is made with (3.11 or newer).'

# ----------------------------------------------------------------------------------------------- use

.PHONY: run
run: $(RUN_READY) ## Run the registry on the examples, without Kubernetes
	@exec $(BIN)/tars-registry serve --source directory --manifests examples/manifests $(ARGS)

.PHONY: bench
bench: $(DEV_READY) ## Measure what must be reached (3 minutes; a C compiler makes the load generator faster)
	@exec $(BIN)/python -m benchmarks $(ARGS)

.PHONY: bench-full
bench-full: $(DEV_READY) ## Measure everything and write docs/performance.md up (half an hour)
	@mkdir -p benchmarks/results
	$(BIN)/python -m benchmarks --full --json benchmarks/results/full.json $(ARGS)
	$(BIN)/python -m benchmarks report benchmarks/results/full.json

# --------------------------------------------------------------------------------------------- check

.PHONY: test
test: $(DEV_READY) ## Run the tests and show what they do not cover
	$(BIN)/python -m $(if $(ARGS),pytest --cov --cov-report=term-missing:skip-covered $(ARGS),tests.in_two)

.PHONY: check
check: lint test ## Run all that CI runs: style, types, layers, tests

.PHONY: lint
lint: $(DEV_READY) ## Check style, types and layers, without the tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile

.PHONY: prove
prove: prove-outages prove-rolling prove-fleet ## Long proofs with reports in docs/proofs/ (25 minutes)

.PHONY: prove-outages
prove-outages: $(DEV_READY) ## Kill the API server again and again (15 minutes)
	$(BIN)/python -m tests.prove.outages $(or $(ARGS),--rounds 100 --longest-gap 20)

.PHONY: prove-rolling
prove-rolling: $(DEV_READY) ## Replace a pair of registries under load again and again (6 minutes)
	$(BIN)/python -m tests.prove.rolling $(or $(ARGS),--rounds 100)

.PHONY: prove-fleet
prove-fleet: $(DEV_READY) ## Have 2,000 tarsnodes report, through half a minute without the API server (4 minutes)
	$(BIN)/python -m benchmarks.fleet $(or $(ARGS),--registries 2 --seconds 30 --outage 30 --report docs/proofs/fleet.md)

.PHONY: test-matrix
test-matrix: ## Run the tests on each Python that can be had, 3.11 and newer
	@exec tests/matrix $(ARGS)

# --------------------------------------------------------------------------------------------- ship

VERSION = $$(sed -nE 's/^version = "(.*)"$$/\1/p' pyproject.toml)

.PHONY: image
image: ## Build the container image (buildah, podman or docker; docs/image.md)
	@exec image/build

.PHONY: sbom
sbom: $(DEV_READY) ## Write down what is in the image and the wheel (CycloneDX, into build/)
	@rm -rf build/wheel && mkdir -p build
	@pip="$(PIP)"; $$pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	image/build --save build/image.tar
	$(BIN)/python -m image.sbom wheel build/wheel/*.whl --output build/tars-registry-$(VERSION)-wheel.cdx.json
	$(BIN)/python -m image.sbom image build/image.tar --output build/tars-registry-$(VERSION)-image.cdx.json

# -------------------------------------------------------------------------------------------- change

.PHONY: setup
setup: $(DEV_READY) ## Make .venv with all that the other targets need

.PHONY: format
format: $(DEV_READY) ## Put the sources in order: imports, fixes that are safe, format
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

# What is pinned stays as it is unless ARGS="--upgrade" or ARGS="--upgrade-package NAME". The options keep the
# files free of any address, and good for every platform and Python that the project runs on.
UV_COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --annotation-style line \
	--custom-compile-command 'make lock' $(ARGS)

.PHONY: lock
lock: $(DEV_READY) ## Pin and hash the requirements again (ARGS=--upgrade for newer ones)
	$(UV_COMPILE) --group build --output-file requirements/build.txt
	$(UV_COMPILE) pyproject.toml --output-file requirements/run.txt
	$(UV_COMPILE) pyproject.toml --group dev --constraints requirements/run.txt \
		--output-file requirements/dev.txt

.PHONY: docs
docs: $(RUN_READY) ## Make the reference pages that come from the code
	@mkdir -p docs
	$(BIN)/python -c 'import sys; from registry.config import reference_page; sys.stdout.write(reference_page())' > docs/settings.md
	$(BIN)/python -c 'import sys; from registry.admin.reference import reference_page; sys.stdout.write(reference_page())' > docs/metrics.md

.PHONY: manifests
manifests: $(DEV_READY) ## Make deploy/ and the chart's table and schema of values from chart and code (needs Go)
	tests/chart/install
	$(BIN)/python -m tests.chart.generate

.PHONY: licences
licences: $(DEV_READY) ## Make docs/licences.md from the metadata of what is shipped
	$(BIN)/python -m image.licences

.PHONY: clean
clean: ## Remove .venv and everything else that was made here
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* htmlcov
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# --------------------------------------------------------------------------------------------- .venv

# Debian keeps ensurepip in a package of its own; without it the venv gets no pip and PIP above uses the one of
# the system.
$(VENV_MADE):
	@python=; \
	for candidate in $(or $(PYTHON),$(PYTHONS)); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "error: no Python 3.11 or newer (tried: $(or $(PYTHON),$(PYTHONS))); install one or name it: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version)"; \
	rm -rf $(VENV); \
	if "$$python" -c 'import ensurepip' 2>/dev/null; then \
		"$$python" -m venv $(VENV) || exit 1; \
	elif "$$python" -m pip --python "$$python" --version >/dev/null 2>&1; then \
		"$$python" -m venv --without-pip $(VENV) || exit 1; \
	else \
		echo "error: $$python has neither ensurepip nor pip >= 22.3; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; \
	fi; \
	"$$python" -c 'import sys; print(sys.executable)' > $@

# The project itself is installed as a link to this checkout, with the requirements that are already there.
$(RUN_READY): requirements/build.txt requirements/run.txt pyproject.toml | $(VENV_MADE)
	@echo 'Installing what tars-registry runs with into $(VENV) (about half a minute the first time)'
	@pip="$(PIP)"; \
	$$pip install --quiet --no-deps --require-hashes -r requirements/build.txt -r requirements/run.txt && \
	$$pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_READY): requirements/dev.txt $(RUN_READY)
	@echo 'Installing the tools for tests and checks into $(VENV) (about a minute the first time)'
	@pip="$(PIP)"; $$pip install --quiet --no-deps --require-hashes -r requirements/dev.txt
	@touch $@
