# make install   create .venv and install evonas with everything the tests need
# make demo      find a small digit classifier under two bounds: real images, no download, minutes on two cores
# make workers   the same search by two workers that share a PostgreSQL server of their own, with the dashboard (Debian: apt install postgresql)
# make fuzz      ten thousand malformed inputs: files, folders, arguments; minutes
# make docs      the site, strictly, its notebooks run: site/index.html
# make test      lint, types, tests and the site: what CI runs
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo workers fuzz docs test

install: .venv/ready

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'    # what is imported is compiled then: a minute less
	touch $@

demo: install
	$(BIN)/evonas mobile --data digits --budget macs=700k --budget latency=5% --epochs 60 --out runs/demo --seed 0

workers: install
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/python -m benchmarks.many_workers --workers 2 --out runs/workers

fuzz: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --cases 10000

docs: install
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/mkdocs build --quiet --strict

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not serial'
	($(BIN)/mypy && $(BIN)/mypy tests/typed/user.py) & types=$$!; $(MAKE) docs & site=$$!; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m serial && wait $$types && wait $$site
