PYTHON ?= python3.11
# Another index to take torch from, for example the PyTorch CPU wheel index: make setup TORCH_INDEX_URL=…
TORCH_INDEX_URL ?=
export TORCH_INDEX_URL

# DeepSpeed looks for ninja on PATH.
IN_VENV = PATH="$(CURDIR)/.venv/bin:$$PATH"

# Two modules at a time: each run on the stack leaves a third of two cores idle.
PYTEST = python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

NEEDS_PYTHON = $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null || { \
	echo "setup: Python 3.11 to 3.13 is needed and '$(PYTHON)' is not one: make $@ PYTHON=/path/to/python" >&2; \
	exit 1; }

.PHONY: help setup setup-gpu dist quickstart test test-fast lint docs format patches-check clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 16

setup:  ## make .venv: dependencies, patched OpenRLHF, this package (PYTHON=…, TORCH_INDEX_URL=…)
	@$(NEEDS_PYTHON)
	@$(PYTHON) scripts/setup_env.py

setup-gpu:  ## make .venv-gpu: the same with vLLM and torch for CUDA (PYTHON=…; 8 GB to download)
	@$(NEEDS_PYTHON)
	@$(PYTHON) scripts/setup_env.py --cuda

dist: setup  ## write build/dist: wheels and requirements that `pip install` takes elsewhere
	@$(IN_VENV) python scripts/dist.py

quickstart: setup  ## train the small model on this machine and print its scores before and after
	@$(IN_VENV) openrlhf kimi quickstart

test: setup lint docs patches-check build/cluster  ## all checks and all tests
	$(IN_VENV) $(PYTEST)

# What `ray job submit` needs beside .venv. With it in there, every run would start all of Ray's dashboard.
build/cluster: requirements/cluster.txt | setup
	@rm -rf $@
	@$(IN_VENV) python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ --requirement $< || { rm -rf $@; exit 1; }
	@touch $@

# Modules that are slow as a whole are not imported: -m alone would deselect their tests after that, in both processes.
test-fast: setup  ## the tests that take seconds and start nothing
	$(IN_VENV) $(PYTEST) -m "not stack and not slow" \
		$$(grep -rlE '^pytestmark = .*mark\.(stack|slow)' tests | sed 's/^/--ignore=/')

lint: setup  ## check style and types
	$(IN_VENV) ruff check .
	$(IN_VENV) ruff format --check .
	$(IN_VENV) mypy

docs: setup  ## build the documentation's site into build/site, strictly
	$(IN_VENV) NO_MKDOCS_2_WARNING=1 mkdocs build --quiet

format: setup  ## rewrite style
	$(IN_VENV) ruff check --fix .
	$(IN_VENV) ruff format .

patches-check: setup  ## prove that the patches are complete and apply, and run OpenRLHF's own tests on them
	$(IN_VENV) python patches/patches.py check --tests

clean:  ## remove .venv, build/ and caches
	rm -rf .venv .venv-gpu build .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
