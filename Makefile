# Two commands matter: `make demo` runs the main job, `make test` passes the tests.
# Each sets up what a bare machine with Python 3.11+ needs; nothing is installed outside .venv
# except, where missing, a few Debian packages (see docs/dependencies.md).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Tests start hundreds of processes, each of which would compile the package again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: install demo test faults coverage lint screenshots clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "trapwatch needs Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { apt-get update -q && apt-get install -y -q python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[offline,heif,dev]'
	@touch $@

# What only the tests of the web pages need: Debian's Chromium, and axe-core from npm.
BROWSER := $(VENV)/node_modules/axe-core/axe.min.js

$(BROWSER): $(STAMP)
	@command -v chromium >/dev/null || { apt-get update -q && apt-get install -y -q chromium; }
	@command -v npm >/dev/null || { apt-get update -q && apt-get install -y -q npm; }
	npm install --silent --no-save --no-audit --no-fund --prefix $(VENV) axe-core@4.14.1
	@touch $@

demo: install
	$(BIN)/trapwatch demo --dir demo $(if $(FRAMES),--frames "$(FRAMES)")

test: install $(BROWSER)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=25

faults: install
	$(BIN)/python -m tests.faults.long_forms $(FORMS)

coverage: install $(BROWSER)
	$(BIN)/python -m pytest -o addopts= --cov --cov-report=term

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*

screenshots: install $(BROWSER)
	$(BIN)/python benchmarks/screenshots.py
	$(BIN)/python benchmarks/page_pictures.py
