# Two commands for a fresh machine: `make demo` and `make test`. Everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
DEMO := demo
PYTEST_ARGS ?=

.PHONY: demo test lint format clean help

help:
	@echo "make demo    set up, generate data, train, evaluate, write $(DEMO)/report.html"
	@echo "make test    set up, then run every test (PYTEST_ARGS='tests/sweep -x' for some)"
	@echo "make lint    ruff, mypy, clang-format"
	@echo "make format  let ruff and clang-format mend what they can"

demo: $(VENV)/.built
	$(BIN)/thfr demo --out $(DEMO)

# The tests find cmake and ninja on PATH. (pytest, not python -m pytest: that would import from the source tree.)
test: $(VENV)/.dev
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest -n auto --maxprocesses 8 $(PYTEST_ARGS)

NATIVE = $$(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

clean:
	rm -rf build $(DEMO) $(VENV) *.egg-info

# The project from the sources as they are, and what it needs to run.
SOURCES := $(shell find csrc cmake thfr_ext python -type f ! -path '*/__pycache__/*' ! -name '*.so' ! -path '*.egg-info/*')
$(VENV)/.built: pyproject.toml constraints.txt setup.py CMakeLists.txt $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	rm -rf build/lib* $(VENV)/wheel  # setuptools would keep modules there that are gone from the sources
	$(PIP) wheel --quiet --no-deps --wheel-dir $(VENV)/wheel .
	$(PIP) install --quiet --force-reinstall --no-deps $(VENV)/wheel/*.whl
	$(PIP) install --quiet --constraint constraints.txt $(VENV)/wheel/*.whl
	touch $@

# And what the tests and checks need.
$(VENV)/.dev: $(VENV)/.built
	$(PIP) install --quiet --constraint constraints.txt "$$(ls $(VENV)/wheel/*.whl)[dev]"
	touch $@
