# Everything that a person or CI does here. A fresh clone needs Python 3.11 or newer and nothing else: `make demo`.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help

help: ## What there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

demo: $(READY) ## Train, refuse, swap and roll back a model in front of you
	$(BIN)/refit demo

up: $(READY) ## Start Refit on this machine, until Ctrl-C
	$(BIN)/refit up

test: $(READY) ## Run the tests
	$(BIN)/pytest

check: $(READY) ## Lint, format, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean: ## Remove what was built; not the data folder
	rm -rf .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,embedded,dev]'
	touch $@

.PHONY: help demo up test check clean
