# Two commands: `make reproduce` and `make test`. Both make .venv first; nothing else is needed.
# `make docs` writes the documentation into build/docs.
PYTHON ?= python3
# Paths and texts are UTF-8, whatever the locale. PYTHONUTF8 is too little: Python 3.11 reads the path
# of an installed clone in the locale's encoding.
export LC_ALL := C.UTF-8
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Modules are compiled when they are first used; most never are.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
DOCS_STAMP := $(VENV)/.docs_installed

.PHONY: install reproduce test test-arithmetic docs lab bench lint clean

# The environment alone: .venv/bin/fusionlib.
install: $(STAMP)

# Runs every notebook on the built-in sample; writes results/sample. Stopped, it continues.
reproduce: $(STAMP)
	$(BIN)/python -m reproduction run --profile sample

# Tests, and every committed notebook run again and compared (nbval).
# One file of tests per core, of eight at most and as memory allows, is faster than one test on all
# of them; a test may start two processes.
PYTEST := OMP_NUM_THREADS=1 LOKY_MAX_CPU_COUNT=2 $(BIN)/python -m pytest -p tests.workers -n auto --maxprocesses 8 --dist loadfile
test: $(STAMP)
	$(PYTEST)
	$(BIN)/python -m tests.notebooks

# The tests whose numbers come from the processor's own arithmetic; .ci/run has them run as on lesser
# processors, too.
test-arithmetic: $(STAMP)
	$(PYTEST) tests/fusionlib/networks tests/reproduction/training tests/reproduction/detection/test_training.py \
	  $(addprefix tests/fusionlib/test_,executors.py losses.py methods.py tiles.py) tests/reproduction/test_ablations.py

# Style and types.
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Docstrings, notebooks and Markdown files as pages in build/docs; a warning fails.
docs: $(DOCS_STAMP)
	$(BIN)/python docs/build.py

# The notebooks in JupyterLab.
lab: $(STAMP)
	$(BIN)/jupyter lab notebooks

# Speed and memory, each figure beside its baseline.
bench: $(STAMP)
	$(BIN)/python -m benchmarks --only networks,training,workers
	$(BIN)/python -m benchmarks.metrics
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.refinefuse_widths
	$(BIN)/python -m benchmarks.explorer

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fusionlib needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[notebooks,test]'
	touch $@

$(DOCS_STAMP): $(STAMP)
	$(PIP) -e '.[docs]'
	touch $@

# Removes the environment and what the commands wrote; downloads in data/ stay.
clean:
	rm -rf $(VENV) results/sample build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
