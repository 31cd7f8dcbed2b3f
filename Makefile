# Everything here needs Python >= 3.11 with pip, and make; uv is used where it is there.
# All paths are relative, because make cannot have a space in a target, and your folder may.

.DEFAULT_GOAL := help
.PHONY: help run dev test check lint format docs bench bench-cli faults fuzz lock clean clean-data

PY := .venv/bin/python
# One person's arguments for one run: `make test ARGS="-k login"`, `make lock ARGS=--upgrade`.
ARGS ?=

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

run: .venv/app.stamp ## Start everything: PostgreSQL, migrations, the first superuser, http://127.0.0.1:8000
	@$(PY) -m tools.run

dev: .venv/app.stamp ## The same, but it starts again whenever you change the code
	@.venv/bin/apictl dev

test: .venv/dev.stamp ## Run every test on a PostgreSQL of its own, and measure the coverage
	@rm -rf .coverage && mkdir .coverage
	@MEASURE_INTO="$(CURDIR)/.coverage" $(PY) -m pytest -n logical --dist worksteal $(ARGS)
	$(if $(ARGS),@echo "coverage: not judged (ARGS may leave something out)",@$(PY) -m tools.coverage_gate .coverage)

check: lint test ## Everything that CI demands

lint: .venv/dev.stamp ## Look for mistakes without running anything: style, types, who imports whom
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@.venv/bin/lint-imports

format: .venv/dev.stamp ## Correct what can be corrected by a program
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

docs: .venv/dev.stamp ## Write again what is written from the code: README's tables, docs/cli.md and the like
	@$(PY) -m tools.docs

bench: .venv/dev.stamp benchmarks/.venv/bench.stamp ## Measure the speed, as ratios to the limit of this machine (needs wrk)
	@$(PY) -m benchmarks $(ARGS)

bench-cli: .venv/dev.stamp ## Measure how long a command takes to start, and tell whether it is too long
	@$(PY) -m benchmarks.cli $(ARGS)

faults: .venv/dev.stamp ## Kill, hang, cut and fill up what a server stands on, and see what holds
	@$(PY) -m faults $(ARGS)

fuzz: .venv/fuzz.stamp ## Send what nobody thought of to every parser and every route, by the thousand
	@$(PY) -m fuzz $(ARGS)

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-strip-extras \
	--no-emit-index-url --custom-compile-command "make lock" pyproject.toml $(ARGS)

lock: ## Pin the dependencies again, with hashes (needs uv)
	$(COMPILE) --group build -o requirements/app.txt
	$(COMPILE) --group build --extra otel --constraint requirements/app.txt -o requirements/otel.txt
	$(COMPILE) --group build --group dev --constraint requirements/app.txt -o requirements/dev.txt
	# Two packages of the peers want older versions than ours.
	sed -E '/^(sqlalchemy|email-validator)(\[|==)/,/[^\\]$$/d' requirements/app.txt >requirements/.peers.txt
	$(subst pyproject.toml,requirements/bench.in,$(COMPILE)) --constraint requirements/.peers.txt -o requirements/bench.txt
	rm requirements/.peers.txt
	$(subst pyproject.toml,requirements/fuzz.in,$(COMPILE)) --constraint requirements/dev.txt -o requirements/fuzz.txt

clean: ## Remove what can be made again: environment, caches, builds; never your data
	rm -rf .venv benchmarks/.venv .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache \
		build dist
	find api cli alembic faults fuzz tests tools -name __pycache__ -prune -exec rm -rf {} +

clean-data: .venv/app.stamp ## Destroy the embedded database and the secret key in .apictl; asks first
	@$(PY) -m tools.clean_data

# An environment that was moved or copied still belongs to its old place, and one may outlive its Python: make it again.
ifneq ($(shell test -x $(PY) && test "$$(cat .venv/place)" = "$$(pwd -P)" && echo here),here)
.PHONY: .venv/app.stamp .venv/dev.stamp .venv/fuzz.stamp benchmarks/.venv/bench.stamp
endif

.venv/app.stamp: requirements/app.txt pyproject.toml tools/install
	@sh tools/install app

benchmarks/.venv/bench.stamp: requirements/bench.txt tools/install
	@sh tools/install bench

.venv/fuzz.stamp: requirements/fuzz.txt .venv/dev.stamp
	@sh tools/install fuzz

.venv/dev.stamp: requirements/dev.txt requirements/app.txt pyproject.toml tools/install
	@sh tools/install dev
