# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

.DEFAULT_GOAL := help
.PHONY: help setup demo lint test test-unit test-registry test-kernel test-fleet test-long bench lab-up lab-down clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: ## prepare the checkout (the others do it too)
	@bash scripts/setup
demo: ## roll out to a fleet of virtual machines and watch it forget
	@bash scripts/demo
lint: ## all linters
	@bash scripts/lint
test: ## everything: lint, unit, registry, kernel, fleet
	@bash scripts/test
test-unit: ## the unit tests
	@bash scripts/test-unit
test-registry: ## the registry's slower tests: many writers, kill -9, what is left on the disk
	@bash scripts/test-registry
test-kernel: ## against a real WireGuard kernel in a virtual machine
	@bash scripts/test-kernel
test-fleet: ## against a fleet of virtual machines
	@bash scripts/test-fleet
test-long: ## a fleet with 100,000 registrations; not part of test
	@bash scripts/test-long
bench: ## peers per second beside wg and pyroute2 (FULL=1: to 1,048,576 peers); PART=registry: keys registered per second; PART=feed, feed-lab: how soon a change is on all gateways; PART=forget: how soon a client is forgotten
	@FULL=$(FULL) bash scripts/bench $(PART)
lab-up: ## start the fleet of virtual machines
	@bash scripts/setup --quiet && tests/lab/lab up
lab-down: ## stop it
	@tests/lab/lab down
clean: ## stop the fleet, remove caches (scripts/clean --all: and the environments)
	@bash scripts/clean
