# Everything that a person or CI does here. A fresh clone needs Python 3.11 or newer and nothing else: `make demo`.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help

help: ## What there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(READY) ## Train, refuse, swap and roll back a model in front of you
	$(BIN)/refit demo

up: $(READY) ## Start Refit on this machine, until Ctrl-C
	$(BIN)/refit up

# One thread a process: threads of numerical libraries that spin for a core which another process has cost minutes.
# Bytecode is kept, whatever the machine says: the hundreds of processes that tests start would compile all of it anew.
test: $(READY) ## Run the tests, one process a core, each with a Postgres and a broker of its own
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n auto --dist worksteal

check: lint test ## Everything that must be true before a change is shown: lint, then the tests

lint: $(READY) ## Style, types, import rules (what the migrations build is held against the tables by a test)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

mutants: $(READY) ## Each line that upholds a truth removed, and the test that is red without it; TRUTHS="2 10"
	$(BIN)/python -m benchmarks.mutants $(TRUTHS)

# What Refit promises, shown on a running service. Each ends in one line, and fails where it is short of the promise.

runbook: $(READY) ## The retraining runbook, step by step, with curl
	$(BIN)/python -m benchmarks.runbook

datasets: $(READY) ## Three real data streams, and what the default gate says of each
	$(BIN)/python -m benchmarks.datasets

burst: $(READY) ## N=1000 equal triggers at once
	$(BIN)/python -m benchmarks.burst $(N)

kills: $(READY) ## kill -9 of each process in a job; FLUSHALL with the jobs of N=100 models queued
	$(BIN)/python -m benchmarks.kills $(N)

api-process: $(READY) ## What a process of the API weighs and how fast it starts
	$(BIN)/python -m benchmarks.api_process

latency: $(READY) ## From the trigger to the first stage, N=20 times, and of what that is made
	$(BIN)/python -m benchmarks.latency $(N)

bench: $(READY) ## Requests, polls and changes of version against what one would pick instead; N=1 is short, N=4 long
	$(BIN)/python -m benchmarks.bench $(N)

swaps: $(READY) ## N=2000 reloads and rollbacks under load on three replicas, and rollback whatever else is away
	$(BIN)/python -m benchmarks.swaps $(N)

chaos: $(READY) ## N=75 faults of 25 kinds while clients call; then the truths against what they saw; SEED=1
	$(BIN)/python -m benchmarks.chaos $(N) $(if $(SEED),--seed $(SEED))

verify: $(READY) ## Both protocols searched by Spin, and the coordinator killed at every statement; N=2 is short, 3 long
	$(BIN)/python -m benchmarks.verify $(N)

bad-input: $(READY) ## N=100 percent of a corpus of bad input on every route; role x method x route; schemathesis
	$(BIN)/python -m benchmarks.bad_input $(N)

texts: $(READY) ## Texts end to end over HTTP: N=77 labels of banking77 in fp32 and int8, kills, bad sources
	$(BIN)/python -m benchmarks.texts $(N)

bench-texts: $(READY) ## Texts embedded a second, N=5 rounds beside sentence-transformers
	$(BIN)/python -m benchmarks.texts.throughput $(N)

decisions: $(READY) ## Gate, drift and watches drawn N=1000 times with the truth known; counting; all of it on a service
	$(BIN)/python -m benchmarks.decisions $(N)

replay: $(READY) ## A real stream with drift: never retrained, each time, and by Refit; CSV=… DEFINITION=… ROWS=1000
	$(BIN)/python -m benchmarks.replay $(if $(CSV),--csv $(CSV)) $(if $(DEFINITION),--definition $(DEFINITION)) \
		$(if $(ROWS),--rows $(ROWS)) $(if $(FIRST),--first $(FIRST)) $(if $(HISTORY),--history $(HISTORY))

road-llm: $(READY) ## A language model from its rows to an answer over HTTP, N=40 reloads under streams, kills, failures
	$(BIN)/python -m benchmarks.llm $(N)

bench-llm: $(READY) ## What a job costs beside a bare TRL script: to its first step, and each step, in N=3 rounds
	$(BIN)/python -m benchmarks.llm.overhead $(N)

images: $(READY) ## Both images by buildah (BUILD_OPTIONS=…), and a job through containers of them
	$(BIN)/python -m benchmarks.images $(BUILD_OPTIONS)

SHOWN := runbook datasets burst kills api-process latency bench swaps chaos verify bad-input texts bench-texts \
	decisions replay road-llm bench-llm

show: $(READY) ## All of these, one after the other
	@short=; for shown in $(SHOWN); do $(MAKE) --no-print-directory $$shown || short="$$short $$shown"; done; \
	test -z "$$short" || { echo "short:$$short"; exit 1; }

clean: ## Remove what was built; not the data folder
	rm -rf .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,embedded,chroma,dev]'
	$(BIN)/python -m workers.llm.converter fetch
	touch $@

.PHONY: help demo up test check mutants lint $(SHOWN) images show clean
