# Two commands do everything: `make demo` and `make test`. Each sets up by itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
CHECKS := $(VENV)/.checks
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check docs clean

demo: $(RUNTIME)  ## learn real tasks in a minute and write a report; DATA=../shared/data takes real image sets
	$(BIN)/stolon demo $(if $(DATA),--data $(DATA)) $(ARGS)

test: check  ## install, then every check
	$(BIN)/pytest --cov -n 2 --dist loadfile $(ARGS)

check: $(CHECKS)  ## everything that needs no running: style, types, layers, docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sphinx-build -q -W -b html docs docs/_build

docs: $(CHECKS)  ## the documentation as HTML in docs/_build
	$(BIN)/sphinx-build -q -W -b html docs docs/_build

# PyTorch first and by its exact version: whatever is installed after it then takes it as it is.
$(RUNTIME): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "torch==2.13.0"
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(CHECKS): $(RUNTIME)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) docs/_build
