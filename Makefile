SHELL := /bin/bash
env := source .venv/env.bash
overlay := $(env) && source install/setup.bash

.PHONY: help setup build test lint clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/'

setup:
	@tools/setup_env.sh

build: setup  ## set up .venv and build with colcon
	@$(env) && colcon build --event-handlers console_direct- --cmake-args -DPython3_EXECUTABLE=$$PWD/.venv/bin/python

test: build  ## run every test
	@$(overlay) && pytest test/unit test/ros

lint: setup  ## check style
	@$(env) && ruff check . && ruff format --check .

clean:  ## remove what build made
	rm -rf build install log
