# Every target sets up .venv by itself. Another interpreter: make PYTHON=python3.12 test
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help venv demo test faults lint bench docs clean

help:
	@echo "make demo   pseudo labels, StarDist, prediction and report on example images"
	@echo "make test   all tests"
	@echo "make faults bad input, crashes, hostile files: the tests of these alone"
	@echo "make lint   ruff and mypy"
	@echo "make bench  speed of every stage"
	@echo "make docs   the documentation as a folder of pages, site/"
	@echo "make venv   only set up .venv"
	@echo "make clean  delete .venv, demo-run and everything built"

venv: .venv/ready

# torch first and alone, so that a CPU build offered by the machine is taken.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt torch
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

demo: venv
	$(BIN)/oce2stardist demo -o demo-run

test: venv
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

faults: venv
	$(BIN)/python -m pytest tests/faults

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: venv
	$(BIN)/python benchmarks/pipeline.py

docs: venv
	$(BIN)/python docs/make_reference.py
	$(BIN)/mkdocs build --strict
	@echo "Look at site/index.html"

clean:
	rm -rf .venv site build dist *.egg-info demo-run .pytest_cache .mypy_cache .ruff_cache
	find . -path ./.git -prune -o -name __pycache__ -type d -exec rm -rf {} +
