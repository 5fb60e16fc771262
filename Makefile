# Every target sets up what it needs; the environment is made once and reused.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1

.PHONY: demo install test test-all lint check docs bench clean

demo: install
	$(BIN)/fedf2dg simulate --engine flower

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'installing PyTorch, Flower and the rest into $(VENV): several GB, a few minutes'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

# Two workers; a file's tests stay together, and the slowest files go first.
WORKERS := -n 2 --dist loadgroup --no-loadscope-reorder

test: install
	$(BIN)/python -m pytest $(WORKERS)

# Every sweep as a whole, in place of the fixed sample that `make test` takes of it.
test-all: install
	$(BIN)/python -m pytest $(WORKERS) --all

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

# A page for every room, from its docstrings, in docs/api/ (not kept in the repository).
ROOMS := fedf2dg server_app client_app strategies post_training questions generation distillation foundation

docs: install
	$(BIN)/python -W error::UserWarning docs/api.py $(ROOMS)
	@echo 'docs/api/index.html'

bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache docs/api
