# What a newcomer types. Everything is done in a virtual environment of this folder; nothing is installed elsewhere.

PYTHON ?= python3
VENV := .venv
VMS ?= 30
SNAPSHOTS ?= 0
PORT ?= 9090
IMPORT ?=
# Tests wait more than they compute: more at once than there are cores.
JOBS ?= 4
# The simulation: docs/testing.md.
SEED ?= 1
ROUNDS ?= 16
MINUTES ?= 30
REPLAY ?=
LOG ?=
ONLY ?=
SIMULATION = PYTHONPATH=.:usr/vm/lib:test $(VENV)/bin/python -m

.PHONY: help run test test-fast test-vectors lint bench simulate soak mutants clean

help:
	@echo "make run [VMS=30] [SNAPSHOTS=0] [PORT=9090] [IMPORT=DIR]   a mock compute node with vminfod on it"
	@echo "make test                                                 lint and all tests"
	@echo "make test-fast                                            the tests without process, socket or file: seconds"
	@echo "make test-vectors                                         what recorded creates and updates change: minutes"
	@echo "make lint                                                 ruff and mypy"
	@echo "make bench                                                benchmarks, under 15 minutes: docs/performance.md"
	@echo "make simulate [SEED=1] [ROUNDS=16] [REPLAY=FILE] [LOG=FILE]  one run of the simulation: docs/testing.md"
	@echo "make soak [MINUTES=30]                                    the simulation with new seeds; writes soak/report.md"
	@echo "make mutants [ONLY=WORDS]                                 whether the simulation sees that a daemon was made worse"
	@echo "make clean                                                remove the virtual environment and caches"

# The stamp is newer than setup.cfg once everything in it is installed.
$(VENV)/installed: setup.cfg setup.py
	@test -x $(VENV)/bin/python || { echo "making a virtual environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing what is needed (half a minute the first time)"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

run: $(VENV)/installed
	@$(VENV)/bin/python mockcn/demo.py --vms $(VMS) --snapshots $(SNAPSHOTS) --port $(PORT) $(if $(IMPORT),--import $(IMPORT))

test: lint
	$(VENV)/bin/python -m pytest -n $(JOBS)

test-fast: $(VENV)/installed
	$(VENV)/bin/python -m pytest -q -m pure

test-vectors: $(VENV)/installed
	$(VENV)/bin/python -m pytest -q -m vectors

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m mypy

bench: $(VENV)/installed
	$(VENV)/bin/python -m bench.everything

simulate: $(VENV)/installed
	$(SIMULATION) simulation --seed $(SEED) --rounds $(ROUNDS) --steps soak/seed-$(SEED).steps $(if $(REPLAY),--replay $(REPLAY)) $(if $(LOG),--daemon-log $(LOG))

soak: $(VENV)/installed
	$(SIMULATION) simulation.soak --minutes $(MINUTES)

mutants: $(VENV)/installed
	$(SIMULATION) simulation.mutants $(if $(ONLY),--only "$(ONLY)")

clean:
	rm -rf $(VENV) soak .pytest_cache .mypy_cache .ruff_cache mockcn/tools/build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
