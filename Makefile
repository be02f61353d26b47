# Every target does the set-up it needs: a fresh clone and `make demo` are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUT ?= demo_out
INSTALL = $(1)/bin/python -m pip install --quiet --disable-pip-version-check
# Tests run side by side, in a process for each core, each with one thread: a run of tests to each, which keeps what
# a file shares in one process, and whoever is done early takes over some of another's.
TEST_PROCESSES ?= -n logical --maxprocesses 8 --dist worksteal

.PHONY: demo test test-lowest test-newest check bench bench-quick docs install clean

demo: install
	$(BIN)/fs demo --out $(DEMO_OUT)

test: install
	$(BIN)/python -m pytest $(TEST_PROCESSES)

# The same tests at the two ends of what pyproject.toml admits, each in an environment of its own.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	$(call INSTALL,.venv-lowest) -c constraints-lowest.txt torch
	$(call INSTALL,.venv-lowest) -c constraints-lowest.txt -e ".[dev]"
	.venv-lowest/bin/python -m pytest $(TEST_PROCESSES)

test-newest:
	$(PYTHON) -m venv .venv-newest
	$(call INSTALL,.venv-newest) --upgrade --upgrade-strategy eager torch
	$(call INSTALL,.venv-newest) --upgrade --upgrade-strategy eager -e ".[dev]"
	.venv-newest/bin/python -m pytest $(TEST_PROCESSES)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --collect-only -qq -m ""  # that every test can be imported, before any runs

# Every benchmark that has a bar; fails where one is missed. Nothing else should run meanwhile.
bench: install
	$(BIN)/python benchmarks/bench.py

bench-quick: install
	$(BIN)/python benchmarks/bench.py --quick

# The documentation site, warnings being errors; its tutorials run while it is built.
docs: install
	$(call INSTALL,$(VENV)) -c constraints.txt -e ".[docs]"
	$(BIN)/python -m sphinx -b html -W --keep-going docs docs/_build/html
	@echo "the site: docs/_build/html/index.html"

install: $(VENV)/.installed

# torch first and alone: asked for by name it is taken from where this machine has a CPU build, and what
# follows then finds it installed.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(call INSTALL,$(VENV)) -c constraints.txt torch
	$(call INSTALL,$(VENV)) -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest .venv-newest $(DEMO_OUT) docs/_build docs/results docs/jupyter_execute build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
