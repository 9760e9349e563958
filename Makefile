# make install   create .venv and install evonas with everything the tests need
# make demo      find a small digit classifier under two bounds: real images, no download, minutes on two cores
# make test      lint, types and tests: what CI runs
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test

install: .venv/ready

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/evonas mobile --data digits --budget macs=700k --budget latency=5% --epochs 60 --out runs/demo --seed 0

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not serial'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m serial
