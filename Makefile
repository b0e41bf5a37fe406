# make demo | test | chaos | fuzz | check | bench | docs. Everything they need is set up in .venv and .cache.
PYTHON ?= python3
BIN := .venv/bin
export NO_MKDOCS_2_WARNING := 1
export PATH := $(CURDIR)/.cache/node/bin:$(PATH)
unexport PYTHONDONTWRITEBYTECODE # tests start some hundred programs, and each would compile all it imports
GATES := --cov=mesa_ws --cov-append --cov-fail-under=95 --cov-core=tests/core.coveragerc

.PHONY: demo test chaos fuzz check bench docs clean

demo: .venv/.product            ## one server, three clients, a dispatch from another process; KEEP=1: a page to play with
	$(BIN)/mesa demo $(if $(KEEP),--keep) $(if $(REDIS),--redis $(REDIS))

test: .venv/.dev tools          ## everything; ends in pytest's closing line. A part: make test ARGS=tests/unit
	$(if $(ARGS),,sh scripts/test-eager-tasks -n auto)
	@rm -f .coverage .coverage.*
	$(BIN)/pytest -n auto $(or $(ARGS),$(GATES))

chaos: .venv/.dev tools         ## break a cluster for long: make chaos SECONDS=600 FAILOVERS=30 SEED=any
	MESA_CHAOS_SECONDS=$(or $(SECONDS),600) MESA_CHAOS_SEED=$(SEED) MESA_FAILOVERS=$(or $(FAILOVERS),30) \
	  $(BIN)/pytest -s $(addprefix tests/faults/,$(addprefix test_,chaos.py failovers.py orders.py restarts.py rolling.py) model browser) $(ARGS)

fuzz: .venv/.dev                ## feed random bytes to all that reads bytes of strangers: make fuzz INPUTS=5000000
	@$(BIN)/python -m pip install --quiet --group fuzz
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),5000000) $(ARGS)

check: .venv/.dev redis         ## format, lint, types, layers, shape, docs, and the wheel in a clean environment
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	sh scripts/check-types-js
	$(BIN)/pytest -q tests/unit/test_layers.py tests/unit/test_exports.py
	sh scripts/shape --roads
	$(BIN)/mkdocs build --strict --site-dir .cache/site
	sh scripts/check-wheel $(BIN)/python

bench: .venv/.dev redis         ## speed and memory beside peers: make bench ARGS=--quick
	$(BIN)/python -m bench $(ARGS)

docs: .venv/.dev                ## the documentation, at http://127.0.0.1:8000
	$(BIN)/mkdocs serve

.PHONY: redis tools
redis:
	@sh scripts/need-redis

tools: .venv/.product redis
	@for name in nginx chromium node; do sh scripts/need-$$name; done

.venv/.product: pyproject.toml
	@sh scripts/need-python $(PYTHON)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[jwt]"
	@touch $@

.venv/.dev: .venv/.product
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

clean:
	rm -rf .venv .cache
