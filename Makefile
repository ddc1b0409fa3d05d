# Everything a newcomer or a builder types. Needs make and Python 3.11 or newer, and nothing else: each target
# makes the virtual environment .venv by itself, once, and again only when pyproject.toml has changed.

# The first Python that is new enough; PYTHON=/path/to/python overrides it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; exit; }; done; echo python3)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary
PYTEST_ARGS ?=
# Most tests wait for something most of the time. JOBS=0 runs them one after the other.
JOBS ?= 3
LONG_JOBS ?= 2
SIDE_BY_SIDE = -n $(JOBS) --dist loadgroup
BENCH_ARGS ?=

.PHONY: help demo test long lint format bench chaos kafka kafka-stop wheel clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     sets up .venv and shows a whole system at work, with a ledger at the end (1 min)"
	@echo "make test     sets up .venv and runs all tests; PYTEST_ARGS='tests/unit -x' for some of them"
	@echo "make long     whole systems on Kafka, and faults that take a while (10 min)"
	@echo "make lint     ruff, strict mypy and the layers of the code"
	@echo "make format   lets ruff write the code as lint wants it"
	@echo "make bench    deliveries per second and CPU per delivery, beside a plain loop"
	@echo "make chaos    the long tests: processes killed at random instants"
	@echo "make kafka    one Kafka broker in ./.kafka, to try things with (needs Java 17 and Maven); make kafka-stop"
	@echo "make wheel    dist/*.whl and dist/*.tar.gz"
	@echo "make clean    removes .venv and everything that was built"

demo: $(VENV)/.with-run
	@$(BIN)/thorn-worker demo

test: $(VENV)/.with-test
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

long: $(VENV)/.with-test
	@$(BIN)/python -m pytest -n $(LONG_JOBS) --dist loadgroup -m 'long and not chaos' $(PYTEST_ARGS)

chaos: $(VENV)/.with-test
	@$(BIN)/python -m pytest -m chaos $(PYTEST_ARGS)

lint: $(VENV)/.with-test $(VENV)/.with-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.with-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.with-bench
	@$(BIN)/python bench/end_to_end.py $(BENCH_ARGS)

# The port that everybody knows; KAFKA_PORT overrides it, and the two above it are taken too.
KAFKA_PORT ?= 9092

kafka: $(VENV)/.made
	@$(BIN)/python -m deploy.kafka start --port $(KAFKA_PORT)

kafka-stop: $(VENV)/.made
	@$(BIN)/python -m deploy.kafka stop

wheel: $(VENV)/.with-dev
	rm -rf dist build
	$(BIN)/python -m build --quiet --outdir dist .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp per set of extras. "run" is the package alone, as users get it.
$(VENV)/.with-run: $(VENV)/.made
	@echo "installing into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.with-%: $(VENV)/.made
	@echo "installing into $(VENV), with what $* needs ..."
	@$(PIP) --editable '.[$*]'
	@touch $@

# A pip that is as old as the Python it came with can do all of this; it is left as it is.
$(VENV)/.made: pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is $$("$(PYTHON)" --version 2>&1 || echo missing), but Python 3.11 or newer is needed: install one, then make PYTHON=/path/to/python3.11"; \
		exit 1; }
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment: on Debian or Ubuntu, apt install python3-venv"; exit 1; }
	@touch $@
