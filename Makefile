# make book   execute the chapters (quick profile), build the HTML, print the path to open
# make test   tests, lint, types
# make lab    open the chapters in JupyterLab

PYTHON ?= python3
PROFILE ?= quick
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: book test lab clean
.DELETE_ON_ERROR:

book: $(READY)
	$(BIN)/python -m ae_core book make --profile $(PROFILE)

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

lab: $(READY)
	$(BIN)/jupyter lab --notebook-dir=book

clean:
	rm -rf $(VENV) _build runs/quick runs/full .mypy_cache .ruff_cache .pytest_cache

# With an NVIDIA driver present, CuPy for the CUDA version that the driver supports comes along.
CUDA = $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: \([0-9]*\).*/\1/p')
EXTRAS = dev$(if $(filter 12,$(CUDA)),$(comma)cuda12)$(if $(filter-out 0 1 2 3 4 5 6 7 8 9 10 11 12,$(CUDA)),$(comma)cuda13)
comma := ,

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "expected Python 3.11 or later, found $$($(PYTHON) --version 2>&1): make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "this Python has no venv module: install it (Debian: apt install python3-venv) or set PYTHON"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@
