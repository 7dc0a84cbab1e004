# Two commands do everything: `make up` and `make test`. Both build with the one release profile.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Settings for the cluster of `make up`, such as UP_FLAGS="--data-dir /tmp/navarch --set server.port=7443".
UP_FLAGS ?=

.PHONY: help up down reset build test chaos

# How long `make chaos` goes on, and on how many members (3 or 5).
MINUTES ?= 10
MEMBERS ?= 3

help: ## Show this.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

up: ## Build, and start a cluster on this machine. Run it again to continue with its data.
	@.ci/install run
	@.ci/build
	@"$$(.ci/build --path)" up $(UP_FLAGS)

down: ## Stop the cluster and remove what it set up on this machine. Its data stays.
	@"$$(.ci/build --path)" down $(UP_FLAGS)

reset: ## As down, and delete the cluster's data.
	@"$$(.ci/build --path)" reset --yes $(UP_FLAGS)

build: ## Build only.
	@.ci/install build
	@.ci/build

test: ## Everything: formatting, lints, unit tests, real clusters with real containers and a real kubectl, power cuts.
	@.ci/install test
	@.ci/build --tests
	@.ci/test

chaos: ## Kill, pause, part and starve the members of a cluster under load for MINUTES=10, and judge what its clients saw.
	@.ci/install test
	@.ci/build --tests
	@NAVARCH_BIN="$$(realpath "$$(.ci/build --path)")" "$$(dirname "$$(.ci/build --path)")/examples/chaos" $(MINUTES) --members $(MEMBERS)
