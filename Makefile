SHELL := /bin/bash
# Sets up on first use and then only prints where.
env = venv=$$(tools/setup_env.sh) && source $$venv/env.bash
# ROS=kilted, whose wheels have a venv and a build of their own.
of = $(if $(ROS),-$(ROS))
overlay = $(env) && source install$(of)/setup.bash
# And on top of it what tests and simulated controllers speak, where ROS 2 does not have it.
interfaces = $(overlay) && source $$(tools/build_interfaces.sh)
bin = install$(of)/trt_openvla_ros/lib/trt_openvla_ros
checkpoint = $(or $(CHECKPOINT),models/tiny_openvla)

.PHONY: help build demo evaluate train serve test lint docs bench bench-gpu drafting robot-loop \
  reliability soak forced viewing pipeline agreement clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/'

build:  ## set up the tools and build with colcon
	@$(env) && colcon --log-base log$(of) build --event-handlers console_direct- \
	  --build-base build$(of) --install-base install$(of) \
	  --cmake-args -DPython3_EXECUTABLE=$$venv/bin/python

demo: build  ## tell a simulated robot what to do, and draw demo.gif: ROBOT=servo or cartesian
	@$(if $(ROBOT),$(interfaces),$(overlay)) && $(bin)/demo $(if $(ROBOT),--robot $(ROBOT)) $(DEMO)

evaluate: build  ## measure how often the small checkpoints obey: EPISODES=100 OUT=build
	@$(overlay) && $(bin)/evaluate --episodes $(or $(EPISODES),100) --out $(or $(OUT),build)

train: build  ## train models/tiny_openvla and models/tiny_ecot anew, from nothing
	@$(overlay) && $(bin)/train_tiny

serve: build  ## serve a policy on http://127.0.0.1:8000: CHECKPOINT=dir SERVE='-p port:=8001'
	@$(overlay) && $(bin)/deploy_server --ros-args \
	  -p checkpoint:=$(checkpoint) $(SERVE)

test: build  ## run every test, JOBS=2 files at once; with ROS=kilted, on that release of ROS 2
	@$(interfaces) && pytest -n $(or $(JOBS),2) --dist loadfile test

lint:  ## check style
	@$(env) && ruff check . && ruff format --check . && hadolint docker/Dockerfile && actionlint

docs: build  ## write the tables in README and docs anew
	@$(overlay) && python docs/tables.py

bench: build  ## compare the policy with transformers; measure the node, and the steps of a picture
	@$(overlay) && PYTHONPATH=test/support:$$PYTHONPATH \
	  python benchmarks/policy.py $(if $(JSON),--json $(JSON)/policy.json)
	@$(overlay) && python benchmarks/node.py $(if $(JSON),--json $(JSON)/node.json)
	@$(overlay) && python benchmarks/camera.py $(if $(JSON),--json $(JSON)/camera.json)

# Without a build: a bare machine with a GPU, torch, timm and transformers runs it. Only where
# there is no torch does it take the venv of the other targets.
bench-gpu:  ## measure on a GPU, beside Hugging Face and the roofline: MINUTES=5 OUT=build/gpu
	@python3 -c 'from importlib.util import find_spec as f; \
	  assert f("torch") and f("timm")' 2>/dev/null || { $(env); }; \
	  python3 benchmarks/gpu.py --out $(or $(OUT),build/gpu) --minutes $(or $(MINUTES),5) \
	  $(GPU)

reliability: build  ## break the loop in every way, and measure what comes of it: REPEATS=5
	@$(interfaces) && python benchmarks/reliability.py --repeats $(or $(REPEATS),5) \
	  $(RELIABILITY) $(if $(JSON),--json $(JSON)/reliability.json)

soak: build  ## run the loop with faults from a seed: HOURS=2 SEED=0, lines in build/soak.jsonl
	@$(interfaces) && python benchmarks/soak.py --hours $(or $(HOURS),2) --seed $(or $(SEED),0) \
	  $(if $(JSON),--json $(JSON)/soak.json)

drafting: build  ## compare steps with and without drafts, for docs/drafting.md
	@$(overlay) && python benchmarks/drafting.py $(if $(JSON),--json $(JSON)/drafting.json)

robot-loop: build  ## measure success through robot_node and controllers, for docs/simulation.md
	@$(interfaces) && python benchmarks/robot_loop.py $(LOOP) \
	  $(if $(JSON),--json $(JSON)/robot_loop.json)

forced: build  ## count the action tokens that the constraint forces, for decision 2
	@$(overlay) && python benchmarks/forced_tokens.py $(if $(JSON),--json $(JSON)/forced_tokens.json)

viewing: build  ## measure what ~/overlay costs; with PICTURES=docs, take its pictures
	@$(interfaces) && python benchmarks/viewing.py $(if $(JSON),--json $(JSON)/viewing.json) \
	  $(if $(PICTURES),--pictures $(PICTURES))

pipeline: build  ## take a small checkpoint through the pipeline, up to where TensorRT is needed
	@$(overlay) && $(bin)/pipeline --ros-args --params-file config/pipeline/tiny.yaml $(PIPELINE)

agreement: build  ## compare a checkpoint with its quantised formats: CHECKPOINT=dir SCENES=96
	@$(overlay) && $(bin)/agreement --checkpoint $(checkpoint) --scenes $(or $(SCENES),96) \
	  $(AGREEMENT) $(if $(JSON),--json $(JSON)/agreement_$(notdir $(checkpoint)).json)

clean:  ## remove what build made
	rm -rf build install log build-* install-* log-*
