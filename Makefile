# Two commands on a fresh machine: `make run` and `make test`. Each does its own set-up.
PYTHON ?= python3
BIN := .venv/bin
FAULTS := tests/faults
# Files of one folder share homes and servers: each process takes whole files.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile
INSTALLED := .venv/.installed

.PHONY: install run test test-runs test-versions test-deployments faults bench bench-training bench-memory bench-parallel bench-workers bench-methods report report-check lint lock clean help

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

run: $(INSTALLED) ## Compress MiniLM on film reviews and compare it with its teacher
	$(BIN)/rosita compress --recipe demo

install: $(INSTALLED) ## Only the virtual environment, with rosita in .venv/bin

test: $(INSTALLED) lint ## Lint, types, import contracts, all laws and one whole run
	$(PYTEST) --no-loadscope-reorder tests/core tests/caching tests/flows tests/deployments

test-runs: $(INSTALLED) ## Many whole runs, grids, kills and servers
	$(PYTEST) --no-loadscope-reorder tests/runs tests/faults tests/parallel tests/tracking

faults: $(INSTALLED) ## Every fault that a run survives, at every moment (tests/faults/README.md)
	FAULTS_OF_THE_INSTALLED_COMMAND=1 \
		$(PYTEST) $(FAULTS) -m "long or not long"

test-versions: $(INSTALLED) ## Exported models in older and newer versions of transformers
	$(BIN)/python -m pytest -m versions tests/versions

test-deployments: .venv/.installed-deployments ## Real servers, workers and pages on loopback (deployments/README.md)
	@command -v docker-compose >/dev/null && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 \
		|| { apt-get update -qq && apt-get install -y -qq postgresql docker-compose >/dev/null; }
	$(PYTEST) -m deployments

.venv/.installed-deployments: $(INSTALLED) requirements-deployments.lock
	$(BIN)/python -m pip install --quiet --requirement requirements-deployments.lock
	touch $@

lint: $(INSTALLED) ## Lint, format, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: .venv/bin/python ## Refresh both locks
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --extra demo --extra dev --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml
	# A build's own suffix (+cpu, +cu130) would install on that build's machines only.
	sed -i -E 's/^(torch==[0-9.]+)\+.*/\1/' requirements.lock
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --constraint requirements.lock --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --output-file requirements-deployments.lock \
		deployments/requirements.in

clean: ## Remove the virtual environment and caches; keeps .rosita
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .import_linter_cache *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv

$(INSTALLED): .venv/bin/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)

bench: $(INSTALLED) ## Kernels, caching and checkpoints beside their baselines
	$(BIN)/python -m tests.bench.kernels
	$(BIN)/python -m tests.bench.caching

bench-training: $(INSTALLED) .venv/textbrewer/.installed ## Training speed beside other tools (tests/bench/README.md)
	$(BIN)/python -m tests.bench.training

.venv/textbrewer/.installed: tests/bench/textbrewer.txt
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .venv/textbrewer --requirement $<
	touch $@

bench-memory: $(INSTALLED) ## Time and memory from 1,000 rows to 1,000,000
	$(BIN)/python -m tests.bench.memory

bench-parallel: $(INSTALLED) ## Training by one process and by two that share each batch
	$(BIN)/python -m tests.bench.parallel

bench-workers: $(INSTALLED) ## A grid of eight small cells on one and on two workers
	$(BIN)/python -m tests.bench.workers

bench-methods: $(INSTALLED) ## What each method without training takes on MiniLM, and its memory
	$(BIN)/python -m tests.bench.methods

report: $(INSTALLED) ## Published tables and plots again, from the committed records
	for folder in $(patsubst %/records,%,$(wildcard tests/bench/results/*/records)); do \
		$(BIN)/rosita report --records $$folder/records --out $$folder \
			--format markdown --format tables || exit 1; \
	done

report-check: $(INSTALLED) ## Whether the published tables and plots are those of the committed records
	$(BIN)/python tests/shared/published_reports.py
