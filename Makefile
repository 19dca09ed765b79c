# Each target makes what it needs. Needed beforehand: Python 3.11, its pip, and make.

PYTHON ?= python3.11
PYTHON312 ?= python3.12
WORKERS ?= 4
VENV := .venv
BIN := $(VENV)/bin
PIP ?= $(BIN)/pip
TOOLS := $(VENV)/.installed
FAKER := .venv-faker/.installed
PYAIRBYTE := .venv-pyairbyte/.installed

# containers set it, and each process would compile all that it imports anew
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test check qa fix bench coverage image clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(TOOLS) ## Make .venv with the connector and its development tools

$(TOOLS): pyproject.toml
	@echo 'Installing the connector and its tools into $(VENV) (a minute or two) ...'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --editable . --group dev
	@touch $@

# A source and PyAirbyte have environments of their own: they are programs on the other end of a pipe.
# They run a part of what is installed, and compile and keep that when they start.
.venv-faker/.installed: PACKAGE = airbyte-source-faker
.venv-pyairbyte/.installed: PACKAGE = airbyte
$(FAKER) $(PYAIRBYTE):
	@echo 'Installing $(PACKAGE) into $(@D) (a minute or two) ...'
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D)/bin/python install --quiet --no-compile $(PACKAGE)
	@touch $@

demo: $(TOOLS) $(FAKER) ## Run source-faker into both vendors' emulators; FAULTS=1 breaks requests, KEEP=1 keeps their page
	$(BIN)/python -m integration_tests.demo $(if $(FAULTS),--faults) $(if $(KEEP),--keep)

# Tests mostly wait: for a clock, a server, another process. WORKERS of them run side by side.
test: ## Run all tests; QUICK=1 leaves out the slow real servers
	@$(MAKE) --no-print-directory $(TOOLS)
	@$(MAKE) --no-print-directory --jobs=2 $(FAKER) $(PYAIRBYTE)
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadgroup \
		$(if $(QUICK),-m "not (image or image_tests or slow_servers)")

check: $(TOOLS) ## Run every static check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/codespell
	$(BIN)/interrogate --quiet unit_tests integration_tests
	$(BIN)/validate-pyproject pyproject.toml

.venv-qa/.installed:
	$(PYTHON312) -m venv $(@D)
	$(@D)/bin/pip install --quiet airbyte-internal-ops
	@touch $@

qa: .venv-qa/.installed ## Run Airbyte's own connector checks (needs Python 3.12)
	AIRBYTE_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 .venv-qa/bin/python integration_tests/qa/run_checks.py

fix: $(TOOLS) ## Format and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(TOOLS) ## Run the benchmarks
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.waiting

coverage: $(TOOLS) ## Run the unit tests with branch coverage
	$(BIN)/python -m pytest unit_tests --cov

image: $(TOOLS) ## Build the container image and run spec, check and write in it
	integration_tests/image/build.sh
	$(BIN)/python -m pytest -m image -v integration_tests/image

clean: ## Remove what the other targets made
	rm -rf .venv .venv-faker .venv-pyairbyte .venv-qa build dist .tmp .*_cache .hypothesis .coverage
