# The front door: installs missing Debian packages, configures CMake and calls it. Everything else is in CMakeLists.txt.
#
#   make run                  builds and runs the main job on real events     make build     only builds build/release/trilog
#   make test                 builds everything and runs all tests            make bench     measures, beside this machine's limits
#   make crash STATES=N       the crash test over N states                    make mutants   deliberate bugs, each must be caught
#   make chaos ROUNDS=N       breaks a cluster of processes   SEED=N: again as that time
#   make fuzz SECONDS=N       each fuzzer for N seconds                       make clean     removes build/
#   make install PREFIX=DIR   the program, its completions and its licence
#
# PACKAGES=skip trusts you to have the packages of .ci/packages.txt under whatever name your system gives them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := run
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.PHONY: run build test bench crash chaos mutants install fuzz clean check packages-build packages-test packages-checks configure

PREFIX ?= /usr/local
STATES ?= 50000
ROUNDS ?= 20
SECONDS ?= 10
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
RELEASE := build/release

run: build
	@python3 examples/main_job.py

build: packages-build configure
	@cmake --build $(RELEASE) --target trilog -j $(JOBS)

test: packages-test configure
	@cmake --build $(RELEASE) -j $(JOBS)
	@ctest --preset release -j $(JOBS) --output-junit "$(CURDIR)/$(RELEASE)/ctest.xml"

bench: packages-build configure
	@cmake --build $(RELEASE) --target bench trilog -j $(JOBS)
	@bench/run.sh $(RELEASE)

crash: packages-build configure
	@cmake --build $(RELEASE) --target crash_test -j $(JOBS)
	@$(RELEASE)/crash_test --states=$(STATES)

chaos: packages-test configure
	@cmake --build $(RELEASE) --target trilog chaos_client history_check -j $(JOBS)
	@tests/e2e/chaos.py --rounds $$(($(ROUNDS) / 2)) $(if $(SEED),--seed $(SEED))
	@tests/e2e/chaos.py --rounds $$(($(ROUNDS) - $(ROUNDS) / 2)) --cuts $(if $(SEED),--seed $(SEED))

mutants: packages-build configure
	@tests/mutants/run.py

fuzz: packages-checks
	@tests/fuzz/run.sh $(SECONDS)

install: build
	@cmake --install $(RELEASE) --prefix $(PREFIX) --strip

check:
	@.ci/run

clean:
	@rm -rf build

packages-build:
	@MAKE_GOAL="$(firstword $(MAKECMDGOALS))" .ci/packages build
packages-test:
	@MAKE_GOAL="$(firstword $(MAKECMDGOALS))" .ci/packages build test
packages-checks:
	@MAKE_GOAL="$(firstword $(MAKECMDGOALS))" .ci/packages build test checks

# Ninja itself notices a changed CMakeLists.txt; only the presets are invisible to it.
configure: $(RELEASE)/build.ninja
$(RELEASE)/build.ninja: CMakePresets.json
	@cmake --preset release
