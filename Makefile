# Every target makes the environment it needs; `make venv` is the only one that installs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS ?= runs
STUDY ?= phantoms

export FLWR_TELEMETRY_ENABLED := 0
export RAY_USAGE_STATS_ENABLED := 0
# Fewer page faults in per-sample gradients, and no spinning threads on a shared machine.
export MALLOC_MMAP_THRESHOLD_ := 8589934592
export MALLOC_TRIM_THRESHOLD_ := 34359738368
export MALLOC_TOP_PAD_ := 268435456
export OMP_WAIT_POLICY := passive

.PHONY: venv programs demo federation test scenarios lint coverage clean

venv: $(VENV)/.made

$(VENV)/.made: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# nginx, Orthanc, Tesseract and others that some tests talk to.
programs:
	@bash .ci/programs

demo: venv
	$(BIN)/medgan-sim run phantoms --out $(RUNS)

# One coordinator and three hospitals as real processes: TLS, keys, daemons, approval, rounds, release.
federation: venv
	$(BIN)/medgan-sim federation $(STUDY) --out $(RUNS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two processes of one thread each are faster than one of two.
test: lint programs
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m 'not scenario' $(PYTEST_FLAGS)

scenarios: venv programs
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m scenario $(PYTEST_FLAGS)

# Both, and the lines that they reach together, subprocesses counted.
coverage: venv
	$(MAKE) test PYTEST_FLAGS='--cov --cov-report='
	$(MAKE) scenarios PYTEST_FLAGS='--cov --cov-append --cov-report='
	$(BIN)/coverage report --fail-under=90

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
