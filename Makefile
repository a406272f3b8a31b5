# Two commands do all: `make demo` runs the main job, `make test` passes the tests.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export PYTHONPATH := $(CURDIR)/e2e

.PHONY: help fetch demo demo-down test test-fast testbed testbed-down run generate lint e2e bench lock clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(INSTALLED): pyproject.toml requirements.lock
	@echo "Setting up the Python environment in $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; set PYTHON=."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@

demo: $(INSTALLED) ## set up everything, run the whole data layer on a real cluster, show it
	@$(BIN)/python -m demo up

demo-down: $(INSTALLED) ## stop what `make demo` started
	@$(BIN)/python -m demo down

testbed: $(INSTALLED) ## local cluster and stores alone; writes .testbed/env
	@$(BIN)/python -m testbed up

testbed-down: $(INSTALLED) ## stop them
	@$(BIN)/python -m testbed down

run: $(INSTALLED) ## run the operator from source on the kubeconfig and stores of the environment (development only)
	@$(BIN)/lucid-storage crds | kubectl apply --server-side -f - > /dev/null
	@SERVED_NAMESPACES='{"*": {}}' ALLOW_LOOPBACK_ENDPOINTS=true LEADER_ELECTION=false \
	  POD_NAMESPACE=default $(BIN)/lucid-storage operator

generate: $(INSTALLED) ## write CRDs, pages, chart copies and plain manifests from the models
	@$(BIN)/python -m lucid_storage.models.generate
	@$(BIN)/python -m generate

lint: $(INSTALLED) ## ruff, mypy, layers, and whether generated files are current
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
	@$(BIN)/python -m generate --check

fetch: $(INSTALLED) ## build and download what tests and demo need, into the cache
	@$(BIN)/python -m testbed fetch

test: lint fetch ## set up what is needed and run all tests
	@$(BIN)/pytest -n 2 --dist worksteal

test-fast: $(INSTALLED) ## the tests that need no server
	@$(BIN)/pytest -n 2 -m "not mongodb and not redis and not elasticsearch and not apiserver and not node"

e2e: $(INSTALLED) ## only the tests on a real node
	@$(BIN)/pytest -m node

bench: $(INSTALLED) ## figures, each beside its limit or peer in the same run
	@$(BIN)/python -m bench

lock: $(INSTALLED) ## write the versions in use to requirements.lock
	@$(BIN)/pip freeze --exclude-editable > requirements.lock

clean: demo-down testbed-down ## stop everything and remove what was made in the tree
	@rm -rf $(VENV) .testbed build *.egg-info operator/*.egg-info .mypy_cache .ruff_cache .pytest_cache
