# Everything a newcomer needs. Each command sets itself up: a virtual environment, the packages, a browser for the tests.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Where this is set, as in some containers, every process compiles all over again what it imports.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run test check bench mini clean browser

help:           ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

run: $(VENV)/.installed  ## open the playground on the embedded base model
	$(BIN)/python app.py

test: $(VENV)/.installed-dev browser  ## all tests, the browser ones included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: $(VENV)/.installed-dev  ## lint, formatting, types, architecture rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_docs.py

bench: $(VENV)/.installed-dev  ## the measured claims of the README
	$(BIN)/python -m benchmarks.main_job
	$(BIN)/python -m benchmarks.speed $(SPEED)

mini: $(VENV)/.installed-dev  ## train the embedded base model anew (hours; needs npm)
	$(BIN)/python -m sdplay.mini --out presets/mini

clean:          ## remove what these commands made
	rm -rf $(VENV) .mini .pytest_cache .ruff_cache .mypy_cache

# --no-compile: Python compiles what is imported when it is, a seventh of all for the page; compiling everything takes half a minute.
$(VENV)/.installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile -r requirements.txt
	touch $@

$(VENV)/.installed-dev: tests/requirements.txt $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile -r tests/requirements.txt
	touch $@

# The browser tests skip, and say so, where no Chromium can be had.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  { command -v apt-get >/dev/null && { [ "$$(id -u)" = 0 ] || sudo -n true 2>/dev/null; } && \
	    SUDO=$$([ "$$(id -u)" = 0 ] || echo "sudo -n"); $$SUDO apt-get update -q >/dev/null && \
	    DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -qy --no-install-recommends chromium >/dev/null; } || \
	  echo "No Chromium here and none could be installed: the browser tests will be skipped."
