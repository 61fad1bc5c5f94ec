# Everything below needs Python 3.11 or newer; the first run makes .venv (PYTHON=... names another Python).
# DURATION_S and KILL_AFTER_S given on the command line reach `feedrank demo` through the environment.

.DEFAULT_GOAL := help
.PHONY: chaos zombie rolling hard simulate fuzz help demo test test-full lint bench constraints docs clean

BIN := .venv/bin

help:
	@echo "make demo       see it work (DURATION_S=60, 0: until Ctrl-C; KILL_AFTER_S=15, 0: never)"
	@echo "make test       everything that must pass"
	@echo "make test-full  the same with the long versions"
	@echo "make chaos      faults from a seed on real processes (SEED=1 FAULTS=50 MINUTES=10 BROKERS=1)"
	@echo "make zombie     a worker frozen for 40 s within a checkpoint and between two, then a rebuild from changelogs"
	@echo "make rolling    what a rolling restart of three workers interrupts (STATIC=--static: with GROUP_INSTANCE_ID)"
	@echo "make hard       a favourite, a crowd, a burst without Redis, a Redis that forgot (CASES= USERS=1000000 ...)"
	@echo "make simulate   the whole job in a simulated world of faults, by seed (SEEDS=2000 FROM=0 WITHIN_S=)"
	@echo "make fuzz       mutated records through the decoder (RECORDS=1000000 FROM=0)"
	@echo "make bench      measure, beside peers"
	@echo "make lint       ruff and mypy only"

demo:
	@.ci/environment demo
	@$(BIN)/feedrank demo

# Two files at a time, each process with servers of its own: half of a run is waiting.
SIDE_BY_SIDE ?= -n 2 --dist loadfile --no-loadscope-reorder

# The simulator has the cores for itself for two minutes at most, its start and its end included.
SIMULATE_S ?= 116

test:
	@.ci/environment demo,test
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory simulate WITHIN_S=$(SIMULATE_S)
	$(BIN)/pytest -m "not full" $(SIDE_BY_SIDE)

test-full:
	@.ci/environment demo,test
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory simulate WITHIN_S=$(SIMULATE_S)
	$(BIN)/pytest $(SIDE_BY_SIDE)

lint:
	@.ci/environment demo,test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

SEED ?= 1
FAULTS ?= 50
MINUTES ?= 10
BROKERS ?= 1

# The servers and workers die with it; logs stay in build/chaos.
chaos:
	@.ci/environment demo,test
	@rm -rf build/chaos
	@$(BIN)/python -m tests.chaos --seed $(SEED) --faults $(FAULTS) --minutes $(MINUTES) --brokers $(BROKERS) --directory build/chaos

zombie:
	@.ci/environment demo,test
	$(BIN)/python -m tests.chaos.zombie
	$(BIN)/python -m tests.chaos.zombie --between

STATIC ?=
rolling:
	@.ci/environment demo,test
	$(BIN)/python -m tests.chaos.rolling $(STATIC)

CASES ?= favourite crowd burst refill
USERS ?= 1000000
ACTIVE ?= 100000
PAUSE_S ?= 60
hard:
	@.ci/environment demo,test
	$(BIN)/python -m tests.hard $(CASES) --users $(USERS) --active $(ACTIVE) --pause-s $(PAUSE_S)

SEEDS ?= 2000
FROM ?= 0
WITHIN_S ?=
simulate:
	@.ci/environment demo,test
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --from $(FROM) $(if $(WITHIN_S),--seconds $(WITHIN_S))

RECORDS ?= 1000000
fuzz:
	@.ci/environment demo,test
	$(BIN)/python -m tests.fuzz --records $(RECORDS) --from $(FROM)

bench:
	@.ci/environment demo,test,bench
	$(BIN)/feedrank bench all

# Pages that are made from the code; a test compares them.
docs:
	@.ci/environment demo,test
	$(BIN)/feedrank settings --markdown > docs/settings.md
	$(BIN)/feedrank features --markdown > docs/features.md

# The versions that were tested together: names and versions, nothing of the machine.
constraints:
	@.ci/environment demo,test,bench
	$(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==[^ ]+$$' > constraints.txt

clean:
	rm -rf .venv build run .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
