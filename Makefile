# `make demo` and `make test` are all that is needed: each makes .venv and installs what it lacks first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow lint examples clean

demo: .venv/.demo-installed
	$(BIN)/minidl demo

test: .venv/.test-installed lint
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4

slow: .venv/.test-installed
	$(BIN)/python -m pytest -q -m slow

lint: .venv/.test-installed
	$(BIN)/ruff check .
	$(BIN)/mypy

examples: .venv/.demo-installed
	for example in examples/*.py; do echo "== $$example"; $(BIN)/python $$example --quick || exit 1; done

clean:
	rm -rf .venv build *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else "minidl needs Python 3.10 to 3.13, this is %d.%d; name another one: make PYTHON=python3.13" % v)'
	$(PYTHON) -m venv .venv

.venv/.demo-installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[plot]'
	$(BIN)/python -m compileall -q minidl kernels
	touch $@

.venv/.test-installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(BIN)/python -m compileall -q minidl kernels
	touch $@
