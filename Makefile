# `make demo` and `make test` do everything on a fresh Debian machine; each step runs once.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := host,audit,he,lab,terraform,provider,tasks,web,notify,png,traces
# An index to take torch from where pip's own has no CPU build; .venv remembers it, for the bundle of the demo's site too.
TORCH_INDEX ?=

.PHONY: help demo root test lint types unit integration molecule e2e life install develop test-packages torch-index screenshots clean

help: ## What can be made
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: root install ## From a fresh machine to a trained model on 9 lab hosts
	@$(BIN)/edgefl demo

root:
	@[ "$$(id -u)" = 0 ] || { printf '%s\n' '✖ the lab needs root: it boots Debian hosts in namespaces of this machine' \
	  '  without root: make install, then `module: static` with devices that you have (docs/real-devices.md)' \
	  '  next: sudo make demo' >&2; exit 13; }

test: develop lint types unit integration molecule e2e ## Everything that must hold

lint: develop ## Style of code, playbooks and Terraform
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	ANSIBLE_HOME=$(CURDIR)/$(VENV)/ansible PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/ansible-lint -q

types: develop ## Strict types
	$(BIN)/mypy

unit: develop test-packages ## Pure parts
	$(BIN)/pytest tests --ignore=tests/integration --ignore=tests/e2e -m "not slow and not e2e" -n 2

integration: develop test-packages ## Real parts on this machine
	$(BIN)/pytest tests --ignore=tests/integration --ignore=tests/e2e -m "slow and not e2e" -n 2 --durations=20
	$(BIN)/pytest tests/integration -m "not e2e" -n 2 --dist worksteal --durations=20

# By name, since a tree without .git has no place where molecule would look for it.
MOLECULE := PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/molecule --base-config .config/molecule/config.yml test

molecule: develop ## Roles on lab hosts
	$(MOLECULE) -s isolation -s identity -s device

e2e: develop test-packages ## The whole chain on the lab; the last word
	$(BIN)/pytest tests/e2e/test_demo.py -m e2e --durations=10
	$(BIN)/pytest tests/e2e tests/integration --ignore=tests/e2e/test_demo.py -m "e2e and not life" --durations=40

life: develop test-packages ## What happens to a fleet after its first day, on the lab; takes long, and is no part of test
	$(MOLECULE) -s coordinator -s upgrade -s rollback
	$(BIN)/pytest tests/e2e -m life --durations=10

screenshots: develop ## The README's pictures, from what really happened in the demo's federation
	$(BIN)/edgefl audit log --site sites/demo > /dev/null
	$(BIN)/python tools/screenshots.py sites/demo/.edgefl/journal/journal.ndjson docs

test-packages:
	@tools/test-packages $(VENV)

install: $(VENV)/.compiled ## The virtual environment
develop: $(VENV)/.developed ## The virtual environment with the tools for working on edgefl

$(VENV)/bin/python:
	@tools/system-packages
	$(PYTHON) -m venv $(VENV)

torch-index: | $(VENV)/bin/python
	@[ -z "$(TORCH_INDEX)" ] || printf '[global]\nextra-index-url = %s\n' "$(TORCH_INDEX)" > $(VENV)/pip.conf

# torch goes first and alone: asked for as a dependency, pip may slide to a newer release, a CUDA build of gigabytes.
$(VENV)/.installed: pyproject.toml requirements.lock | torch-index
	@tools/torch-source $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[$(EXTRAS)]'
	@touch $@

# Aggregation's kernels, for edgefl here and, with its code, for hosts of this architecture; without a compiler NumPy does their work.
$(VENV)/.compiled: edgefl/federation/aggregation/kernels.c edgefl/federation/aggregation/kernels.h $(VENV)/.installed
	@$(BIN)/python -m edgefl.federation.aggregation.kernels
	@touch $@

$(VENV)/.developed: $(VENV)/.compiled
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[$(EXTRAS),dev]'
	@touch $@

clean: ## Remove what was made here
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache edgefl/federation/aggregation/kernels-*
