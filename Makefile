# Everything happens in .venv at the repository root; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
INPUTS := setup.cfg pyproject.toml constraints.txt
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile
DEMO_DIR ?= medresnet3d-demo

.PHONY: help demo test test-slow test-realdata test-gpu lint docs wheel clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 24

demo: $(VENV)/.installed ## install and run the demonstration (a few minutes on 2 cores)
	$(BIN)/medresnet3d demo -o $(DEMO_DIR)

test: $(VENV)/.installed-test ## install with the test tools and run the default tests
	$(PYTEST) --timeout 300 -m "not slow and not realdata and not gpu"

test-slow: $(VENV)/.installed-test ## run the tests that take minutes
	$(PYTEST) -m "slow and not realdata and not gpu"

test-realdata: $(VENV)/.installed-test ## run the tests on real data: make test-realdata REALDATA=folder-of-manifests
	@test -n "$(REALDATA)" || { echo "say where the data is: make test-realdata REALDATA=folder-of-manifests" >&2; exit 2; }
	MEDRESNET3D_REALDATA="$(abspath $(REALDATA))" $(PYTEST) -m realdata

test-gpu: $(VENV)/.installed-test ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

lint: $(VENV)/.installed-test ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy medresnet3d

docs: $(VENV)/.installed-test ## build the documentation; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

wheel: $(VENV)/.installed-test ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## remove what the targets above have made
	rm -rf $(VENV) build dist docs/_build .pytest_cache .mypy_cache .ruff_cache medresnet3d.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is too old: medresnet3d needs Python 3.11 or newer (make PYTHON=python3.12 ...)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python $(INPUTS)
	@echo "installing medresnet3d into $(VENV) (a few minutes, once)"
	$(PIP) -e ".[demo]"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "installing the test tools into $(VENV) (once)"
	$(PIP) -e ".[dev]"
	@touch $@
