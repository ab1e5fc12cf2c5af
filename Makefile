# Two environments: .venv has what a user has, .venv-dev has what a developer has.
# .venv must not hold torch, so that `make demo` shows what the runtime needs.
PYTHON ?= python3
PACKAGES := runtime train export models voices benchmarks
PINNED := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
NEEDS := setup.cfg pyproject.toml constraints.txt
# What these ask for breaks the environment; see CONTRIBUTING.md.
ALONE := torchcrepe swift-f0 resemblyzer webrtcvad-wheels distillmos xls-r-sqa pocketsphinx

.DEFAULT_GOAL := help
.PHONY: help demo test lint types docs bench windows demo-voice clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

demo: .venv/installed ## convert a real song with the shipped voice into out/
	.venv/bin/svc-run tests/data/vocadito_10.flac -o out --plot --force

test: lint types ## install the development environment; run lint, types and tests
	.venv-dev/bin/pytest --quiet

lint: .venv-dev/installed ## ruff
	.venv-dev/bin/ruff check .

types: .venv-dev/installed build/types ## mypy
	.venv-dev/bin/mypy

docs: .venv-dev/installed build/types ## the manual and the API as web pages, into build/docs
	.venv-dev/bin/mkdocs build --strict --quiet
	@echo "wrote build/docs/index.html"

bench: .venv-dev/installed ## measure all that can be measured here, and write docs/results.md (half an hour)
	.venv-dev/bin/python -m moksori.benchmarks.all

windows: .venv-dev/installed ## convert with Windows' Python under Wine (needs root and debootstrap)
	.venv-dev/bin/python -m moksori.benchmarks.windows

demo-voice: .venv-dev/installed ## train the demo voice again, from packages (hours; resumes)
	.venv-dev/bin/python train/recipes/demo/run.py

clean: ## remove environments, caches and build output (not training work)
	rm -rf .venv .venv-dev build dist out *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache

# What does not follow the editable install finds the packages here.
build/types: Makefile
	@mkdir -p build/types/moksori
	@for package in $(PACKAGES); do ln -sfn "../../../$$package" "build/types/moksori/$$package"; done
	@touch $@

.venv/installed: $(NEEDS)
	$(call environment,.venv)
	.venv/bin/python $(PINNED) --no-build-isolation --editable ".[cpu,plot]"
	@touch $@

.venv-dev/installed: $(NEEDS)
	$(call environment,.venv-dev)
	.venv-dev/bin/python $(PINNED) --no-build-isolation --editable ".[cpu,plot,video,live,train,export,eval,docs,dev]"
	.venv-dev/bin/python $(PINNED) --no-deps $(ALONE)
	@touch $@

define environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 demo" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
@test -x $(1)/bin/pip || $(PYTHON) -m venv $(1)
@$(1)/bin/python $(PINNED) setuptools
endef
