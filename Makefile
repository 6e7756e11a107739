# Every target sets up .venv by itself. Another interpreter: make PYTHON=python3.12 test
PYTHON ?= python3
BIN := .venv/bin

# The tests of the napari plugin open no window.
export QT_QPA_PLATFORM ?= offscreen

.PHONY: help venv demo qt test test-long faults lint bench docs clean

help:
	@echo "make demo   pseudo labels, StarDist, prediction and report on example images"
	@echo "make test   the tests, within 15 minutes"
	@echo "make test-long  the few that would take them past 15 minutes"
	@echo "make faults bad input, hostile files, kills, full disks ...; writes docs/faults.md"
	@echo "make lint   ruff, mypy, and who may import whom"
	@echo "make bench  speed of every stage"
	@echo "make docs   the documentation as a folder of pages, site/"
	@echo "make venv   only set up .venv, with all that developers need"
	@echo "make clean  delete .venv, demo-run and everything built"

venv: .venv/ready

# What a user installs. torch first and alone, so that a CPU build offered by the machine is taken.
.venv/user: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt torch
	$(BIN)/python -m pip install -c constraints.txt -e .
	touch $@

# What developers need beside it: tests, linters, documentation, napari.
.venv/ready: .venv/user
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/user
	$(BIN)/oce2stardist demo -o demo-run

# Libraries of the system that Qt needs and a bare machine lacks; they belong to no environment.
qt:
	$(PYTHON) tests/qt_libraries.py

test: venv qt
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test-long: venv qt
	$(BIN)/python -m pytest -m long

faults: venv
	$(BIN)/python -m pytest tests/faults
	$(BIN)/python tests/faults/matrix.py

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: venv
	$(BIN)/python benchmarks/pipeline.py

docs: venv
	$(BIN)/python docs/make_reference.py
	$(BIN)/mkdocs build --strict
	@echo "Look at site/index.html"

clean:
	rm -rf .venv site build dist *.egg-info demo-run .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -path ./.git -prune -o -name __pycache__ -type d -exec rm -rf {} +
