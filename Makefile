# Entry points for people; CMake does the work (CMakePresets.json).

jobs := $(shell nproc)

.DEFAULT_GOAL := help
.PHONY: help demo lab test test-cpp test-pytorch test-python wheel core bench bench-pytorch bench-layers bench-python clean

help: ## print the targets
	@echo "evenkeel: layer-wise normalization for training deep networks"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 21

demo: ## train with four normalizations side by side and write a report (installs what is missing)
	@scripts/install-packages program
	cmake --preset release --log-level=WARNING
	cmake --build --preset release --parallel $(jobs) --target evenkeel_program
	build/release/bin/evenkeel compare --network mlp,cnn --norms none,batch,layer,lrn --seeds 2 --steps 1000 --out build/demo

lab: ## test what is said about normalization by quick experiments and write a report (installs what is missing)
	@scripts/install-packages program
	cmake --preset release --log-level=WARNING
	cmake --build --preset release --parallel $(jobs) --target evenkeel_program
	build/release/bin/evenkeel lab --all --quick --out build/lab

test: test-cpp ## build everything and run all tests (installs what is missing; PyTorch into build/venv: some GB)
	scripts/test-python

test-cpp: ## the same but for the Python package: needs Debian packages alone
	@scripts/install-packages all
	cmake --preset release --log-level=WARNING
	cmake --build --preset release --parallel $(jobs)
	ctest --preset release --parallel $(jobs)

test-pytorch: ## build and test the libtorch bridge with pip's PyTorch (installs it into build/venv: some GB)
	@scripts/install-packages pytorch
	scripts/test-pytorch

test-python: ## build, install and test the Python package (PyTorch into build/venv: some GB); TORCH=2.10.0 for another
	@scripts/install-packages pytorch
	scripts/test-python $(TORCH)

wheel: ## build and check the Python package's wheel for every Python and PyTorch, in build/wheel
	@scripts/install-packages pytorch
	scripts/wheel

core: ## build and test the core library alone, without libtorch (installs what is missing)
	@scripts/install-packages core
	cmake --preset core --log-level=WARNING
	cmake --build --preset core --parallel $(jobs)
	ctest --preset core --parallel $(jobs)

bench: ## time every operation beside oneDNN and PyTorch; rewrite docs/performance.md and its tables (about 25 minutes)
	@scripts/install-packages bench
	cmake --preset bench --log-level=WARNING
	cmake --build --preset bench --parallel $(jobs) --target evenkeel_bench evenkeel_bench_modules
	build/bench/bin/evenkeel_bench --out bench/results.json
	bench/modules.py
	bench/report.py

bench-pytorch: ## time the core beside pip's PyTorch, eager and compiled (installs it into build/venv: some GB)
	@scripts/install-packages pytorch
	scripts/python-environment
	cmake --preset bench-pytorch --log-level=WARNING
	cmake --build --preset bench-pytorch --parallel $(jobs) --target evenkeel_core_c
	build/venv/bin/python bench/pytorch.py

bench-layers: ## time layers of networks beside pip's PyTorch, through the Python package; rewrite their part of docs/performance.md (some 50 minutes)
	@scripts/install-packages bench
	@scripts/install-packages pytorch
	build=$$(scripts/python-environment) && $$build/bin/python -m pip install --quiet --no-build-isolation --no-deps --no-index --force-reinstall .
	build/venv/bin/python bench/layers.py
	build/venv/bin/python bench/layers.py --batches 32 --filter batch_norm --threads 2 --rounds 5 --out bench/layers-32.json
	bench/layers_report.py bench/layers.json bench/layers-32.json --page docs/performance.md --picture docs/layers.png

bench-python: ## time whole models beside pip's PyTorch, through the Python package; rewrite docs/models.md (more than an hour)
	@scripts/install-packages bench
	@scripts/install-packages pytorch
	build=$$(scripts/python-environment) && $$build/bin/python -m pip install --quiet --no-build-isolation --no-deps --no-index --force-reinstall .
	build/venv/bin/python bench/models.py
	bench/models_report.py --page docs/models.md --picture docs/models.png

clean: ## remove the build folder, the reports of demo and lab included
	rm -rf build
