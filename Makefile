# `make serve` and `make test` work on a fresh clone; `make help` lists the rest.

# Not ?=: some shells export HOST as the machine's own name.
HOST = 127.0.0.1
PORT = 8080
ARGS =
PYTEST_ARGS =
# How many tests run at a time; the browsers' ones run one after the other in any case.
JOBS = 2
SECONDS = 60
TARGETS =

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test
INSTALLED_FUZZ := $(VENV)/.installed-fuzz

# The first of these that runs, is new enough and can make an environment; empty when there is none.
PYTHON = $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)

.PHONY: help serve test lint types bench fuzz clean system-packages other-ends
.NOTPARALLEL:

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(INSTALLED) ## Start the server and its page on http://127.0.0.1:8080 (HOST=, PORT=, ARGS=)
	@exec $(BIN)/mediapeer serve --host $(HOST) --port $(PORT) $(ARGS)

test: $(INSTALLED_TEST) system-packages other-ends lint types ## Lint, check types and run the tests (PYTEST_ARGS=, JOBS=2; JOBS=0 to debug)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

lint: $(INSTALLED_TEST) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED_TEST) ## Check types
	$(BIN)/mypy

bench: $(INSTALLED_TEST) ## Run every benchmark beside its peer
	@for name in handshake record memory flood call setup mux idle receive recording; do $(BIN)/python -m benchmarks $$name || exit 1; echo; done

fuzz: $(INSTALLED_FUZZ) ## Fuzz each target for a while, where atheris is to be had (SECONDS=60, TARGETS=)
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(TARGETS)

system-packages: ## Install the browsers and commands the tests drive, where we may
	@.ci/system-packages

other-ends: $(INSTALLED_TEST) ## Install and build the other endpoints the tests talk to, where they can be had
	@$(BIN)/python -m tests.tools.prepare

clean: ## Remove the environment and what tools left behind
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made anew when pyproject.toml changes: what it no longer names must not linger.
$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "mediapeer needs Python 3.11 or newer with venv: install python3.11 or" \
		"later (on Debian and Ubuntu: apt-get install python3-venv), and try again." >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(INSTALLED_TEST): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

# There are wheels of atheris for some Pythons and machines; without it `make fuzz` says so, and does nothing.
$(INSTALLED_FUZZ): $(INSTALLED_TEST)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary atheris --editable \
		'.[test,fuzz]' && touch $@ || true
