# Everything this repository does; `make help` lists it. GNU make 3.81 or newer, Python 3.11 or newer.
# PY=python make ...   uses that interpreter (say, of a conda environment) instead of .venv.

PROFILE ?= default

# What is asked for goes into the environment as it was typed, and neither make nor a shell reads anything in it.
ASKED := PROFILE NB GRID J P F
$(foreach v,$(ASKED),$(eval override $(v) := $$(value $(v))))
export $(ASKED)

# A profile names a folder of build/.
rest := $(PROFILE)
$(foreach c,a b c d e f g h i j k l m n o p q r s t u v w x y z A B C D E F G H I J K L M N O P Q R S T U V W X Y Z \
    0 1 2 3 4 5 6 7 8 9 _ -,$(eval rest := $$(subst $(c),,$$(rest))))
ifneq ($(rest)$(if $(PROFILE),,empty),)
$(error PROFILE=$(PROFILE) is no name of a profile: that has letters, digits, _ and - only)
endif

NAMES := $(basename $(notdir $(wildcard notebooks/[0-9][0-9]_*.py)))
BUILD := build/$(PROFILE)
REPORTS := $(if $(filter default,$(PROFILE)),reports,$(BUILD)/reports)
HTML := $(NAMES:%=$(REPORTS)/%.html)
RUNS := $(NAMES:%=$(BUILD)/%.run.ipynb)
REGISTRY := notebooks/statements.yaml
# What shows and asks; a change there does not run the notebooks again.
PAGES := $(wildcard mmcl/reports/*.py mmcl/reports/templates/*) $(REGISTRY)
INDEX = $(PYTHON) -m mmcl index --statements $(REGISTRY) $(REPORTS)/index.html $(BUILD) $(NAMES)
RENDER = $(PYTHON) -m mmcl render --statements $(REGISTRY)
RUN = { $(PYTHON) -m mmcl run notebooks/$*.py $(BUILD)/$*.run.ipynb --profile $(PROFILE) || { rm -f $(REPORTS)/$*.html; \
    [ ! -f $(BUILD)/$*.failed.ipynb ] \
    || $(RENDER) $(BUILD)/$*.failed.ipynb $(REPORTS)/$*.failed.html; exit 1; }; }
# A page that does not end as pages do, as after trouble with a disk, is made anew, and with it the index.
WHOLE = for p in $(wildcard $(HTML) $(REPORTS)/index.html $(REPORTS)/ledger.html); do \
    tail -c 9 $$p | grep -q '</html>' || { echo "mmcl: $$p is not whole and is made anew" >&2; \
    case $$p in */index.html|*/ledger.html) ;; *) rm -f $$p;; esac; rm -f $(REPORTS)/index.html; }; done
DAMAGED = [ $$? = 3 ] # the status of a command that has found a run that is not whole

ifdef PY
PYTHON := $(PY)
ENVIRONMENT := check-python
else
PYTHON := .venv/bin/python
ENVIRONMENT := .venv/.made
endif

MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := reports
.DELETE_ON_ERROR:
.PHONY: help reports site test test-fast coverage lint pairs check-pairs outputs readme report sweep seeds parameters bench lab lock clean distclean check-python

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "  make PROFILE=smoke (or paper): all notebooks at small sizes (at those of the paper)"; \
	echo "  PY=python make: your own environment, not .venv"

# ---------------------------------------------------------------- the environment

MATHS := $(wildcard tests/test_*.py mmcl/*.py) tests/beyond mmcl/beyond
MEASURED = COVERAGE_FILE=build/coverage $(PYTHON) -m coverage

define FAIL
{ echo "mmcl: $(1)" >&2; exit 1; }
endef

# On Linux torch comes from PyTorch's index of CPU builds if that can be reached; PyPI's is several GB of CUDA.
.venv/.made: requirements.lock pyproject.toml
	@for p in python3 python3.13 python3.12 python3.11; do \
	    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; p=; \
	done; \
	[ "$$p" ] || $(call FAIL,Python 3.11 or newer is needed: install it from your package manager or python.org and run make again.); \
	rm -f $@; \
	.venv/bin/python -m pip --version >/dev/null 2>&1 || $$p -m venv --clear .venv || { rm -rf .venv; \
	    $(call FAIL,$$p could not make a virtual environment: install its venv module (Debian: apt install python3-venv) and run make again.); }
	@torch=$$(grep '^torch==' requirements.lock); index=; \
	[ "$$(uname -s)" != Linux ] || index='--extra-index-url https://download.pytorch.org/whl/cpu'; \
	echo "Installing into .venv: $$torch, then the packages of requirements.lock (some minutes the first time)"; \
	pip='.venv/bin/python -m pip --disable-pip-version-check -qq install'; \
	{ $$pip --no-deps --retries 1 --timeout 15 $$index "$$torch" && $$pip -r requirements.lock \
	    && $$pip --no-deps --no-build-isolation -e .; } \
	|| $(call FAIL,the packages could not be downloaded and installed: check the network and run make again; what is there is kept.)
	@touch $@

check-python:
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	|| $(call FAIL,PY=$(PY) is not a Python 3.11 or newer.)
	@missing=$$($(PY) -c 'import sys; from importlib.util import find_spec; sys.path = [p for p in sys.path if p]; \
	print(*[m for m in sys.argv[1:] if not find_spec(m)])' mmcl torch numpy scipy sklearn matplotlib pooch yaml jupytext \
	papermill nbconvert ipykernel PIL latex2mathml nh3 pandas pytest coverage ruff mypy axe_core_python); \
	[ -z "$$missing" ] || $(call FAIL,PY=$(PY) cannot import $$missing: run $(PY) -m pip install -e \".[test]\" or leave PY away.)

# ---------------------------------------------------------------- the notebooks

reports: | $(ENVIRONMENT) ## run all notebooks, make reports/index.html, print the claims (default)
	@$(WHOLE)
	@$(MAKE) -k $(REPORTS)/index.html \
	|| { $(INDEX); exit 1; }

$(REPORTS)/index.html: $(HTML) $(REGISTRY)
	@$(INDEX)

$(HTML): $(REPORTS)/%.html: $(BUILD)/%.run.ipynb $(PAGES)
	@$(RENDER) $< $@ || { $(DAMAGED) && $(RUN) && $(RENDER) $< $@; }
	@rm -f $(@:.html=.failed.html)

$(RUNS): $(BUILD)/%.run.ipynb: notebooks/%.py requirements.lock | $(ENVIRONMENT)
	@$(RUN)

# What else each run depends on, by its imports; any Python does, since there may be no environment yet.
-include build/depends.mk
build/depends.mk: $(wildcard notebooks/*.py notebooks/stored/* notebooks/profiles.yaml mmcl/*.py mmcl/*/*.py mmcl/*/*.json)
	@mkdir -p build; for p in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	    $$p -S mmcl/reports/dependencies.py $@ $(NAMES:%=notebooks/%.py) 2>/dev/null && exit; done; echo '$$(RUNS): $^' > $@

report: | $(ENVIRONMENT) ## one notebook with other parameters: make report NB=01 P="n=200 tau=0.5" [F=values.yaml]
	@$(PYTHON) -m mmcl report --profile=$(PROFILE) --pairs="$$P" $${F:+-f"$$F"} -- "$$NB"

sweep: | $(ENVIRONMENT) ## a grid of parameters: make sweep NB=01 GRID=grid.yaml [J=2]
	@$(PYTHON) -m mmcl sweep --profile=$(PROFILE) -j"$${J:-1}" -- "$$NB" "$$GRID"

seeds: | $(ENVIRONMENT) ## how often each claim holds at small sizes: make seeds [N=30] [NB=02] [J=2]
	@$(PYTHON) -m mmcl seeds -n"$${N:-30}" -j"$${J:-1}" -o build/seeds -- $${NB:+"$$NB"} $(if $(value NB),,$(NAMES))

parameters: | $(ENVIRONMENT) ## the parameters of a notebook and their meaning: make parameters NB=01
	@$(PYTHON) -m mmcl parameters -- "$$NB"

pairs: | $(ENVIRONMENT) ## bring the inputs of notebooks/*.ipynb up to notebooks/*.py
	@$(PYTHON) -m mmcl pairs $(NAMES:%=notebooks/%.py)

check-pairs: | $(ENVIRONMENT)
	@$(PYTHON) -m mmcl pairs --check $(NAMES:%=notebooks/%.py)

outputs: | $(ENVIRONMENT) ## run all notebooks and refresh the outputs committed in notebooks/*.ipynb
	@$(MAKE) pairs
	@$(MAKE) reports PROFILE=default
	@for n in $(NAMES); do $(PYTHON) -m mmcl outputs notebooks/$$n.ipynb build/default/$$n.run.ipynb || exit 1; done

site: reports ## the same pages as a folder for static hosting: build/site
	@rm -rf build/site && mkdir -p build/site && cp $(HTML) $(REPORTS)/index.html $(REPORTS)/ledger.html build/site
	@touch build/site/.nojekyll && echo "Pages: build/site"

readme: | $(ENVIRONMENT) ## refresh README.md's figure and table from the committed notebooks
	@$(PYTHON) -m mmcl readme README.md $(NAMES:%=notebooks/%.ipynb)

# ---------------------------------------------------------------- checks and tools

test: | $(ENVIRONMENT) ## ruff, pairs, pytest, and all notebooks at small sizes with every claim asserted
	@$(MAKE) lint
	@$(MAKE) check-pairs
	@$(MAKE) coverage
	@$(PYTHON) -m pytest $(MATHS:%=--ignore=%)
	@$(MAKE) -j2 reports PROFILE=smoke

# The root is gated at what it has; what is missed there are methods that a kind of loss has to give.
coverage: | $(ENVIRONMENT) ## run the tests of the mathematics and print the lines and branches they miss
	@mkdir -p build; $(MEASURED) run --branch --source=mmcl -m pytest $(MATHS)
	@$(MEASURED) report --skip-covered --show-missing --include='mmcl/beyond/*'
	@$(MEASURED) report --skip-covered --show-missing --include='mmcl/*.py' --omit=mmcl/__main__.py --fail-under=99

test-fast: | $(ENVIRONMENT) ## the tests of the mathematics alone, for the loop while coding
	@$(PYTHON) -m pytest -m "not kernel and not browser and not slow"

lint: | $(ENVIRONMENT) ## ruff check, ruff format --check, and the types
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy

bench: | $(ENVIRONMENT) ## measure speed and memory (tests/bench/*.py)
	@for b in tests/bench/*.py; do $(PYTHON) $$b || exit 1; done

lab: | $(ENVIRONMENT) ## open the notebooks in JupyterLab
	@$(PYTHON) -m jupyter lab notebooks

# The CUDA packages that PyPI's torch asks for on Linux are left out: the CPU build needs none of them.
lock: ## make requirements.lock again from pyproject.toml (needs the network)
	@mkdir -p build && $(or $(PY),python3) -m venv build/uv && build/uv/bin/python -m pip install --quiet uv
	@build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	    --upgrade --extra test pyproject.toml > build/lock.txt
	@{ echo "# Exact versions for pip, Python 3.11 to 3.13, Linux and macOS. Made by: make lock"; \
	   grep -vE '^(nvidia-|cuda-|triton)' build/lock.txt; } > requirements.lock

clean: ## remove what was built, not .venv
	rm -rf build reports

distclean: clean ## remove .venv and caches too
	rm -rf .venv *.egg-info .ruff_cache .pytest_cache .mypy_cache
	find mmcl tests -name __pycache__ -prune -exec rm -rf {} +
