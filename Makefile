# make book                 execute the chapters (quick preset), build the HTML, print the path to open
# make test                 tests, lint, types
# make lab                  open the chapters in JupyterLab
# make edition NAME=h100    measure the chapters on this machine's GPU, to publish in editions/h100
# make browse               look over the built pages in headless Chromium (apt install chromium)
# make pdf, make zip        the built book as one PDF (needs Chromium), and as an archive for offline readers
# make html EDITION=h100    build the HTML of what is published: no GPU, nothing executed

PYTHON ?= python3
PRESET ?= quick
VENV := .venv
BIN := $(VENV)/bin

# With an NVIDIA driver present, CuPy for the CUDA version that the driver supports comes along; without
# one, the compiler alone, to check that kernels compile.
CUDA := $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA \(UMD \)\{0,1\}Version: *\([0-9]*\).*/\2/p')
CUPY := $(if $(CUDA),$(shell [ $(CUDA) -ge 13 ] && echo cuda13 || { [ $(CUDA) -eq 12 ] && echo cuda12 || echo nvrtc; }),nvrtc)
# An edition is measured with cuML, whose wheels are for CUDA 13, and beside PyTorch.
BESIDE := ,rapids,peer
EXTRAS := $(if $(filter test browse,$(MAKECMDGOALS)),dev,book),$(CUPY)$(if $(filter edition,$(MAKECMDGOALS)),$(if $(filter cuda13,$(CUPY)),$(BESIDE)))
PARALLEL := -n auto --dist worksteal
READY := $(VENV)/ready-$(EXTRAS)

.PHONY: book test lab edition html browse pdf zip clean
.DELETE_ON_ERROR:

book: $(READY)
	$(BIN)/python -m ae_book make --preset $(PRESET)

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PARALLEL)

edition: $(READY)
	@[ "$(NAME)" ] || { echo "expected a name for the edition: make edition NAME=h100"; exit 1; }
	$(BIN)/python -m ae_book execute --edition $(NAME)

html: $(READY)
	@[ "$(EDITION)" ] || { echo "expected which edition: make html EDITION=h100"; exit 1; }
	$(BIN)/python -m ae_book html --edition $(EDITION)

browse: $(READY)
	AE_HTML=_build/html $(BIN)/python -m pytest $(PARALLEL) tests/browser

pdf zip: $(READY)
	$(BIN)/python -m ae_book $@

lab: $(READY)
	$(BIN)/jupyter lab --notebook-dir=book

clean:
	rm -rf $(VENV) _build runs/quick runs/full runs/*.failed .mypy_cache .ruff_cache .pytest_cache

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "expected Python 3.11 or later, found $$($(PYTHON) --version 2>&1): make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "this Python has no venv module: install it (Debian: apt install python3-venv) or set PYTHON"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@
