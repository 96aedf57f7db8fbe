# PYTHON: which Python makes .venv (3.11 or newer).   DEVICE: auto, cpu or cuda.   JOBS: processes that test side by side, on a
# GPU one, because each takes some of its memory.
PYTHON ?= python3
DEVICE ?= auto
DEMO   ?= runs/demo
GPUS   ?= $(wildcard /dev/nvidia[0-9]*)
JOBS   ?= $(if $(GPUS),1,2)
BIN    := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test check fuzz docs bench bench-peers lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: ## make .venv from the lock files (DEVICE=cpu|cuda, PYTHON=python3.12); at once when nothing changed
	@$(PYTHON) requirements/install.py --device $(DEVICE)

demo: install ## the finding on this machine: the quick-start grid through real vLLM, into runs/demo
	@$(BIN)/spt-fast run benchmarks/grids/quickstart.yaml --output $(DEMO)

test: install ## every test that this machine can run (ARGS='-k store')
	@$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadfile $(ARGS)

check: install ## style, types, and the order of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

fuzz: install ## nearly valid input for all that reads files (MINUTES=30 ARGS='--seed 7 --only grids'); findings in build/fuzz
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),10) $(ARGS)

docs: install ## the documentation, into build/site; a link that leads nowhere is an error (SERVE=1: at localhost:8000, as you write)
	@$(PYTHON) requirements/docs.py
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs $(if $(SERVE),serve,build --strict --quiet --site-dir build/site)
	@$(if $(SERVE),,echo "the documentation is in build/site/index.html")

bench: install $(if $(SMOKE),,bench-peers) ## the benchmarks, into benchmarks/results (SMOKE=1: a minute each, to see that they run)
	@for file in $$(find benchmarks -mindepth 2 -maxdepth 2 -name '*.py' ! -name carry.py | sort); do \
	  echo "== $$file"; $(BIN)/python $$file $(if $(SMOKE),--smoke,--save) || exit 1; \
	done
	@$(if $(SMOKE),,$(BIN)/python benchmarks/page.py)

bench-peers: install ## the tools that benchmarks compare with, into .venv-peers
	@$(PYTHON) requirements/peers.py

lock: ## write the lock files anew, with the newest versions that fit (KEEP=1: change as few as possible)
	@PYTHON=$(PYTHON) requirements/lock.sh

clean: ## remove caches and built files; runs/ and .venv stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find spt_fast kernels tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
