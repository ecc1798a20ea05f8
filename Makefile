# What a newcomer types. Everything is done in a virtual environment of this folder; nothing is installed elsewhere.

PYTHON ?= python3
VENV := .venv
VMS ?= 30
SNAPSHOTS ?= 0
PORT ?= 9090
IMPORT ?=
# Tests wait more than they compute: more at once than there are cores.
JOBS ?= 8
# The simulation: docs/testing.md.
SEED ?= 1
ROUNDS ?= 16
MINUTES ?= 30
REPLAY ?=
LOG ?=
ONLY ?=
SIMULATION = PYTHONPATH=.:usr/vm/lib:test $(VENV)/bin/python -m

# For an image: where to, and the image's own python3 (docs/platform-image.md).
DESTDIR ?=
PIP ?= $(PYTHON) -m pip
VERSION = $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' usr/vm/lib/vminfod/__init__.py)

.PHONY: help run test test-fast test-vectors lint bench simulate soak mutants install vendor dist lock release-check test-all debian-packages clean

help:
	@echo "make run [VMS=30] [SNAPSHOTS=0] [PORT=9090] [IMPORT=DIR]   a mock compute node with vminfod on it"
	@echo "make test                                                 lint and all tests"
	@echo "make test-all                                             all examples, what needs the network or packages of Debian, too"
	@echo "make release-check                                        whether a version can go out"
	@echo "make test-fast                                            the tests without process, socket or file: seconds"
	@echo "make test-vectors                                         what recorded creates and updates change: minutes"
	@echo "make lint                                                 ruff and mypy"
	@echo "make bench                                                benchmarks, under 15 minutes: docs/performance.md"
	@echo "make simulate [SEED=1] [ROUNDS=16] [REPLAY=FILE] [LOG=FILE]  one run of the simulation: docs/testing.md"
	@echo "make soak [MINUTES=30]                                    the simulation with new seeds; writes soak/report.md"
	@echo "make mutants [ONLY=WORDS]                                 whether the simulation sees that a daemon was made worse"
	@echo "make install DESTDIR=DIR [PYTHON=python3]                 what a platform image has: docs/platform-image.md"
	@echo "make vendor DESTDIR=DIR [PYTHON=python3]                  what the daemon is built on, for that Python"
	@echo "make dist                                                 what make install lays out, as a tar ball in build/"
	@echo "make lock                                                 choose anew what make vendor takes"
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
	@echo "left out: what needs the network or Debian's $(DEBIAN), and what shows a rule once more (make test-all); recorded outcomes (make test-vectors)"

debian-packages:
	@echo $(DEBIAN)

# Debian's packages that test-all needs.
DEBIAN = curl jq mandoc mtools prometheus systemd zsh
test-all: test test-vectors
	$(VENV)/bin/python -m pytest -n $(JOBS) -m more
	VMINFOD_EXAMPLES=all $(VENV)/bin/python -m pytest -n $(JOBS) $$(grep -rl 'examples(' test --include='test_*.py')

# What has to hold before a version goes out: all tests (the documents' links and an installation from an archive among
# them), the changes say what is new in it, and nothing lies about that is not committed.
release-check: test-all
	@grep -q '^## \[$(VERSION)\] - 20' CHANGELOG.md || { echo "CHANGELOG.md has nothing about $(VERSION)"; exit 1; }
	@grep -q '^## \[Unreleased\]' CHANGELOG.md || { echo "CHANGELOG.md has no place for what comes next"; exit 1; }
	@test -z "$$(git status --porcelain)" || { git status --short; echo "not all of it is committed"; exit 1; }
	@$(MAKE) --no-print-directory dist
	@echo "$(VERSION) can go out: git tag v$(VERSION)"

# In one process: a second one costs as much to begin as it saves. Without those that look through all sources.
test-fast: $(VENV)/installed
	$(VENV)/bin/python -m pytest -q -n 0 -m "pure and not more" $$(grep -rl 'mark\.pure' test --include='test_*.py' --exclude-dir=whole)

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

install:
	@image/install "$(DESTDIR)" "$(PYTHON)"

vendor:
	@image/vendor "$(DESTDIR)" "$(PYTHON)" "$(PIP)"

# The same bytes for the same tree: no times, no users.
dist:
	@rm -rf build/image && image/install build/image "$(PYTHON)"
	@tar -C build/image --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - . | gzip -n9 >build/vminfod-$(VERSION).tar.gz
	@rm -rf build/image
	@echo build/vminfod-$(VERSION).tar.gz

lock: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5,<1'
	@sed -n '/^#/p' requirements.lock >requirements.new
	@$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --upgrade --no-header --no-annotate \
		--no-emit-package cffi --no-emit-package pycparser setup.cfg >>requirements.new
	@mv requirements.new requirements.lock

clean:
	rm -rf $(VENV) build soak .pytest_cache .mypy_cache .ruff_cache mockcn/tools/build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
