# Every command of the project; `make` lists them. Python 3.11 or 3.12 and make are all that a machine needs.
.DEFAULT_GOAL := help
.PHONY: help venv demo test services services-stop services-status services-clean prometheus bench boards lint lock

py := .venv/bin/python
services := $(py) -m deploy.native

# What a demo can vary: make demo RATE=5000 DURATION=60 SCENARIO=flash_sale SEED=7
demo_options = \
	$(if $(RATE),--rate '$(RATE)') \
	$(if $(DURATION),--duration '$(DURATION)') \
	$(if $(SCENARIO),--scenario '$(SCENARIO)') \
	$(if $(SEED),--seed '$(SEED)') \
	$(if $(INPUT),--input '$(INPUT)') \
	$(if $(SPEED),--speed '$(SPEED)') \
	$(if $(HISTORY),--history '$(HISTORY)') \
	$(if $(EMBEDDED),--embedded)

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: .venv/.installed ## from an event to a proved number (RATE DURATION SCENARIO SEED INPUT SPEED HISTORY=30d EMBEDDED=1)
	@exec $(py) -m shopstream demo $(strip $(demo_options)) $(ARGS)

test: .venv/.installed ## run the tests, on the real services if they are up (ARGS='-k clean')
	@exec $(py) -m pytest $(ARGS)

services: .venv/.installed ## start real Apache Kafka and TimescaleDB, without Docker
	@exec $(services) start

services-status: .venv/.installed ## show whether they run and answer
	@exec $(services) status

services-stop: .venv/.installed ## stop them; their data is kept
	@exec $(services) stop

services-clean: .venv/.installed ## stop them and remove their data
	@exec $(services) clean

prometheus: .venv/.installed ## watch the flows of `shopstream up` and demos, on 127.0.0.1:9090
	@exec $(services) prometheus

bench: .venv/.installed ## measure speed and latency on the real services
	@exec $(py) -m bench $(ARGS)

boards: .venv/.installed ## render the files that Grafana reads from grafana/
	@exec $(py) -m grafana render

lint: .venv/.installed ## check style and types
	@$(py) -m ruff check .
	@$(py) -m ruff format --check .
	@$(py) -m mypy

lock: ## pin the dependencies of pyproject.toml anew
	@sh deploy/python.sh uv
	@.shopstream/uv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --extra dev \
		pyproject.toml -o requirements.lock --no-header --no-annotate -q

venv: .venv/.installed

.venv/.installed: requirements.lock deploy/python.sh
	@sh deploy/python.sh
