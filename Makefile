# Each target works alone on a fresh machine; a second call installs nothing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST_ARGS ?= -n 2 --dist loadfile
QUICKSTART := $(BIN)/phonoscope run quickstart
BENCHMARKS = $(sort $(wildcard tests/benchmarks/bench_*.py))

# What installations depend on, beside the package's own files (they are installed editable).
RECIPE := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help quickstart test coverage lint bench upstream clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(VENV)/.demo  ## Run the SNR-sweep demo and print its leaderboard
	$(QUICKSTART)

test: $(VENV)/.test lint  ## Check style and types, then run all tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

coverage: $(VENV)/.test  ## Run all tests and say which lines of the core they miss
	$(BIN)/python -m pytest $(PYTEST_ARGS) --cov=phonoscope --cov-report=term-missing:skip-covered --cov-fail-under=90

lint: $(VENV)/.test  ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict

bench: $(VENV)/.test  ## Measure speed and memory (prints ratios; takes minutes)
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script; done

# These packages and those of `make test` cannot share an environment.
upstream: $(VENV)-nemo/.made $(VENV)-upstream/.made  ## Hold QuartzNet and the speaker networks against their own packages
	$(VENV)-nemo/bin/python -m pytest tests/metrics/test_wer_nemo.py
	$(VENV)-nemo/bin/python -m pytest -W ignore tests/test_laws.py -k quartznet
	$(VENV)-upstream/bin/python -m pytest tests/metrics/test_spksim_upstream.py

$(VENV)-nemo/.made: EXTRAS := nemo,torch,demo
$(VENV)-upstream/.made: EXTRAS := upstream
$(VENV)-%/.made: $(RECIPE)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]' pytest pytest-timeout hypothesis
	@touch $@

clean:  ## Remove the environment, caches and build folders (never results)
	rm -rf $(VENV) $(VENV)-nemo $(VENV)-upstream build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find bench metrics systems leaderboards tests -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf bench/*.egg-info

# pip comes last: an environment that was cut short is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "phonoscope needs Python 3.11 or newer; this is " + sys.version.split()[0] + " (make PYTHON=python3.12 names another)")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(RECIPE) | $(BIN)/pip
	$(PIP) -e '.[demo]'
	@touch $@

# It holds everything that the demo needs too.
$(VENV)/.test: $(RECIPE) | $(BIN)/pip
	$(PIP) -e '.[demo,dev,ray,torch,ui]'
	@touch $(VENV)/.demo $@
