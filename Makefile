# make run    the proxy          make test   everything that must hold
# make help   the rest
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PACKAGING := pyproject.toml setup.py requirements.txt
BENCH ?=

# Only for making .venv; without it scripts/pick-python chooses.
export PYTHON

.PHONY: help run test coverage fuzz demo bench lint docs clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

run: $(VENV)/.installed  ## install if needed, then run the proxy in the foreground with etc/sslintercept.ini
	@exec $(BIN)/twistd -n --pidfile= sslintercept --config etc/sslintercept.ini

test: system-packages $(VENV)/.installed-dev lint  ## everything: system packages, lint, types, all tests
	@scripts/run-tests $(BIN)/python

coverage: $(VENV)/.installed-dev  ## the same tests, with the lines that they reach; takes half as long again
	$(BIN)/python -m pytest --cov --cov-report=term

fuzz: $(VENV)/.installed-dev  ## look for new failures of the property tests, with thousands of random examples each
	HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest -m hypothesis -p no:cacheprovider

demo: $(VENV)/.installed  ## send one HTTPS request through the proxy and show the recorded sequence
	$(BIN)/python -m sslintercept.demo

bench: $(VENV)/.installed  ## side by side with the peers that are installed; BENCH="-p squid,sslintercept -c bump-rps"
	$(BIN)/python bench/run.py $(BENCH)
	$(if $(BENCH),,$(BIN)/python bench/udp.py)
	$(if $(BENCH),,$(BIN)/python bench/dns.py)
	$(if $(BENCH),,$(BIN)/python bench/transform.py)
	$(if $(BENCH),,$(BIN)/python bench/aio.py)
	$(if $(BENCH),,$(BIN)/python bench/icap.py)
	$(if $(BENCH),,$(BIN)/python bench/store.py)
	$(if $(BENCH),,$(BIN)/python bench/leak.py)
	$(if $(BENCH),,$(BIN)/python bench/unpack.py)
	$(if $(BENCH),,$(BIN)/python bench/phish.py)
	$(if $(BENCH),,$(BIN)/python bench/inspect_parts.py)
	$(if $(BENCH),,$(BIN)/python bench/sites.py)

lint: $(VENV)/.installed-dev  ## style, types, order of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed  ## write the reference of the ini file anew, check the links
	$(BIN)/python -m sslintercept.config.reference
	$(BIN)/python scripts/check-links

clean:  ## remove what make made, but not var/ (it holds your CA)
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* .hypothesis .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache bench/results twisted/plugins/dropin.cache
	find sslintercept tests twisted bench -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: system-packages
system-packages:
	@scripts/install-system-packages

# The stamps hold for one state of the packaging; sources need no new installation, it is an editable one.
$(VENV)/.installed: $(PACKAGING)
	@scripts/make-venv $(VENV)
	$(PIP) install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(PACKAGING) requirements-dev.txt
	@scripts/make-venv $(VENV)
	$(PIP) install --quiet --editable '.[dev]'
	@touch $(VENV)/.installed $@
