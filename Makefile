# Two commands do everything: `make up` and `make test`. Both build with the one release profile.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Settings for the cluster of `make up`, such as UP_FLAGS="--data-dir /tmp/navarch --set server.port=7443".
UP_FLAGS ?=

.PHONY: help up down reset build test test-cluster

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

test: ## Formatting, lints, the repository's shape, and the tests that run quickly.
	@.ci/install test
	@.ci/build
	@.ci/test

test-cluster: ## Every test: pods in a real containerd, a whole application, power cuts too.
	@.ci/install test
	@.ci/build
	@NAVARCH_BIN="$$(realpath "$$(.ci/build --path)")" cargo test --release --workspace --no-fail-fast
