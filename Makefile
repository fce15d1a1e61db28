# make demo   the demonstration on real flights
# make test   the tests
# make lint   ruff, its formatter and mypy --strict
#
# Each makes .venv from constraints.txt where that is missing or outdated, and needs nothing but
# make and Python >= 3.11. Settings:
#
#   PYTHON=python3.12   the interpreter of .venv (default: the first that works of those below)
#   PIP_ARGS=...        more arguments for pip. On Linux, PyPI's torch carries CUDA, several GB.
#                       Without a GPU, PyTorch's own index has a build that does not:
#                       make test PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
#   ARGS=...            more arguments for `relann demo` or pytest: make test ARGS="-k parse"
#   JOBS=2              how many processes the tests share

VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

# A version manager's shim may exist and yet not run, so each is tried.
INTERPRETERS := python3.13 python3.12 python3.11 python3
USABLE_PYTHON := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
ifdef PYTHON
WANTED := $(PYTHON)
else
WANTED := $(shell for python in $(INTERPRETERS); do \
	$$python -c '$(USABLE_PYTHON)' 2>/dev/null && echo $$python && break; done)
endif

# .venv is of use if it was made here, not copied, and by the interpreter asked for, if any was.
IDENTITY := import sys; print(sys.version, sys.base_prefix)
VENV_KEPT := $(shell \
	grep -qsF '$(CURDIR)/$(VENV)' $(VENV)/pyvenv.cfg \
	&& mine=$$($(BIN)/python -c '$(IDENTITY)' 2>/dev/null) \
	&& $(if $(PYTHON),test "$$mine" = "$$($(PYTHON) -c '$(IDENTITY)')",true) \
	&& echo yes)

INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt $(PIP_ARGS)

.PHONY: help demo test lint remake
.DELETE_ON_ERROR:

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//; p' Makefile

demo: $(VENV)/demo.stamp
	$(BIN)/relann demo $(ARGS)

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/pyvenv.cfg: $(if $(VENV_KEPT),,remake)
	@$(or $(WANTED),false) -c '$(USABLE_PYTHON)' || \
		{ echo 'relann needs Python >= 3.11 with venv; name one: make PYTHON=...' >&2; exit 1; }
	$(WANTED) -m venv --clear $(VENV)

$(VENV)/demo.stamp: constraints.txt pyproject.toml $(VENV)/pyvenv.cfg
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/test.stamp: constraints.txt pyproject.toml $(VENV)/pyvenv.cfg
	$(INSTALL) --editable '.[demo,dev]'
	@touch $(VENV)/demo.stamp $@
