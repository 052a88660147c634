# Two commands for a fresh machine: `make demo` and `make test`. Everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
DEMO := demo
PYTEST_ARGS ?=

.PHONY: demo test emulate emulate-sanitized emulate-plain gpu-check sanitize sanitize-address sanitize-thread sanitize-python windows docs lint format bench clean help

help:
	@echo "make demo    set up, generate data, train, evaluate, write $(DEMO)/report.html"
	@echo "make test    set up, then run every test (PYTEST_ARGS='tests/sweep -x' for some)"
	@echo "make emulate  the CUDA kernels on the CPU, under AddressSanitizer + UBSan, and the self-check with them"
	@echo "make gpu-check  on a machine with a GPU: build, CUDA tests, compute-sanitizer, benchmarks, a record"
	@echo "make sanitize  the C++ tests under AddressSanitizer + UBSan, then under ThreadSanitizer"
	@echo "make sanitize-python  the tests of thfr_ext with a module under AddressSanitizer + UBSan"
	@echo "make windows  the C++ tests, compiled by MinGW, run under Wine"
	@echo "make docs    the documentation as a site, in build/site"
	@echo "make lint    ruff, mypy, clang-format"
	@echo "make bench   time the kernels beside their alternatives (BENCH_ARGS='sweep --out FILE' for some)"
	@echo "make format  let ruff and clang-format mend what they can"

demo: $(VENV)/.built
	$(BIN)/thfr demo --out $(DEMO)

# The tests find cmake and ninja on PATH. (pytest, not python -m pytest: that would import from the source tree.)
test: $(VENV)/.dev
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest -n auto --maxprocesses 8 $(PYTEST_ARGS)

# The CUDA kernels, launchers and bindings as they are, compiled for the CPU and held against the oracles (tests marked `emulated`):
# under sanitizers, and the self-check, which must see a crash and a race, without.
emulate: emulate-sanitized emulate-plain
emulate-sanitized: FLAGS = -DTHFR_SANITIZE=address,undefined,float-cast-overflow
emulate-sanitized: RUN = ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$(SANITIZER_LIBRARIES)"
emulate-sanitized: TESTS = -m emulated $(or $(PYTEST_ARGS),tests/emulator tests/scoring tests/retrieval tests/sweep)
emulate-plain: FLAGS = -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1  # builds in half the time
emulate-plain: TESTS = tests/emulator/test_self_check.py
emulate-sanitized emulate-plain: $(VENV)/.dev
	PATH="$(abspath $(BIN)):$$PATH" cmake -S . -B build/$@ -G Ninja -DTHFR_CUDA=off -DTHFR_WERROR=ON -DTHFR_EMULATOR=ON $(FLAGS) \
	  -DPython_EXECUTABLE=$(abspath $(BIN))/python -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)"
	PATH="$(abspath $(BIN)):$$PATH" cmake --build build/$@ --target _emulated --parallel 2
	THFR_EMULATED=$(abspath build/$@/tests/emulator) $(RUN) $(BIN)/pytest -n auto --maxprocesses 8 $(TESTS)

# The C++ tests, built without CUDA. Among them are faults planted in the library, which must be found (tests/cpp/native).
# GCC's OpenMP is not instrumented, so that ThreadSanitizer would take its barriers for races: THFR_THREADS=std.
sanitize: sanitize-address sanitize-thread
sanitize-address: SANITIZERS = -DTHFR_SANITIZE=address,undefined,float-cast-overflow
sanitize-thread: SANITIZERS = -DTHFR_SANITIZE=thread -DTHFR_THREADS=std
sanitize-address sanitize-thread:
	cmake -S . -B build/$@ -DTHFR_CUDA=off -DTHFR_WERROR=ON -DTHFR_TESTS=ON $(SANITIZERS)
	cmake --build build/$@ --parallel 2
	ctest --test-dir build/$@ --output-on-failure --parallel 2

# The C++ library and its tests for Windows, compiled by MinGW and run under Wine. Its OpenMP comes as a DLL.
windows:
	cmake -S . -B build/$@ -DCMAKE_TOOLCHAIN_FILE=cmake/mingw.cmake -DTHFR_CUDA=off -DTHFR_WERROR=ON -DTHFR_TESTS=ON
	cmake --build build/$@ --parallel 2
	cp "$$(x86_64-w64-mingw32-g++-posix -print-file-name=libgomp-1.dll)" \
	  $$(for name in libgcc_s_seh-1 libwinpthread-1; do x86_64-w64-mingw32-g++-posix -print-file-name=$$name.dll; done) build/$@/tests/cpp/native
	WINEDEBUG=-all ctest --test-dir build/$@ --output-on-failure

# Python itself is not instrumented: the sanitizers' libraries come in first. Its own leaks are not ours.
SANITIZER_LIBRARIES = $$(for name in asan ubsan stdc++; do $${CXX:-c++} -print-file-name=lib$$name.so; done | xargs)
sanitize-python: $(VENV)/.dev
	rm -rf build/lib* build/$@
	THFR_SANITIZE=address,undefined THFR_CUDA=off $(PIP) install --quiet --no-deps --target build/$@ .
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$(SANITIZER_LIBRARIES)" PYTHONPATH=$(abspath build/$@) \
	  $(BIN)/pytest -n auto --maxprocesses 8 -m "not slow" -k "not compile and not opcheck" \
	  tests/fuzz tests/scoring tests/retrieval tests/sweep

# The site, into build/site; a broken link or reference is an error.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

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

# Alternatives come with it: see benchmarks/run.py.
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

# With the python3 on PATH, which needs a torch for CUDA and what `pip install .[test]` brings; installs thfr-ext into it.
gpu-check:
	$(PYTHON) benchmarks/gpu_check.py $(GPU_ARGS)

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

# And what the benchmarks compare with.
$(VENV)/.bench: $(VENV)/.dev
	$(PIP) install --quiet --constraint constraints.txt "$$(ls $(VENV)/wheel/*.whl)[bench]"
	touch $@
