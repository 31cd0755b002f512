# Two commands: `make demo` shows the whole story, `make test` runs the tests; `make fast` leaves out the slow ones.
# Each sets up .venv first where it is missing or older than the lock file; after that both work offline.
# The tests start many processes: they keep compiled modules even where the environment says not to.

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
OUT ?= $(shell if [ -w . ]; then echo medtl-demo; else echo "$${TMPDIR:-/tmp}/medtl-demo-$$(id -un)"; fi)
INSTALLED = $(VENV)/installed

.PHONY: demo test fast check clean

demo: $(INSTALLED)
	@$(VENV)/bin/medtl demo --out "$(OUT)"

test: $(INSTALLED)
	@echo "medtl: running the tests"
	@PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -m pytest -q -n 2 --dist worksteal $(TESTS)

fast: $(INSTALLED)
	@PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -m pytest -q -n 2 --dist worksteal -m "not slow" $(TESTS)

check: $(INSTALLED)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

$(INSTALLED): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "medtl: needs Python 3.11 or newer; install it, or name one: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "medtl: setting up $(VENV) from requirements.lock (once; takes some minutes, mostly download)"
	@"$(PYTHON)" -m venv "$(VENV)" || \
		{ echo "medtl: Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 2; }
	@$(VENV)/bin/python -m pip install --disable-pip-version-check -r requirements.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(VENV)/bin/python -m pip check --quiet --disable-pip-version-check
	@touch $(INSTALLED)
	@echo "medtl: set-up done"

clean:
	rm -rf $(VENV) medtl-demo
