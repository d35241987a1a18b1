# lmstack: `make demo` answers a question about docs/; `make test` proves the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LMSTACK := $(BIN)/lmstack
KERNELS := src/lmstack/engine/cpu
NATIVE := setup.py $(KERNELS)/build.py $(wildcard $(KERNELS)/csrc/*.[ch] src/lmstack/train/native/*.[ch])
NATIVE_MISSING = ls $(KERNELS)/_native*.so >/dev/null 2>&1 \
  || echo "The native ops were not built: models run on slower ones. $(LMSTACK) doctor says more."
QUESTION ?= How do I open the web page?

.PHONY: bench bench-adapters bench-answers bench-questions bench-citations bench-attention bench-seq2seq bench-vocabularies bench-serving bench-latency bench-quantization bench-speculative bench-retrieval bench-lookalikes bench-speed bench-indexing bench-start bench-attacks bench-training bench-training-tasks bench-reward bench-constitutional bench-grpo bench-preferences bench-structured bench-agents
.PHONY: demo test test-long fuzz mutants check format docs clean

demo: $(VENV)/.base
	@$(LMSTACK) pull
	@$(LMSTACK) ask "$(QUESTION)" --docs docs
	@printf '\nNext:\n'
	@printf '  %s ask "your question" --docs YOUR_FOLDER   ask about your own documents\n' "$(LMSTACK)"
	@printf '  %s up docs                                  open the page at http://127.0.0.1:8000\n' "$(LMSTACK)"
	@printf '  make test                                              run every test\n'

# Processes of one thread each, JOBS of them: a file of tests stays in one. Two more than there are
# processors on a small machine, because tests wait for processes that they start.
# Bytecode is kept even where the environment says otherwise: tests start hundreds of processes,
# and each would compile lmstack anew. Files are not sorted by the number of their tests: the slow
# ones, which have few, would come last and leave processors idle.
# mypy, one process, runs beside them for the same reason; what it finds is printed at the end.
# Properties are tried on the same 20 draws each time, so that a change fails for what it changed;
# pytest alone, and the long suite, draw 100 anew. Files and the tests in them run in random order, so
# that none needs another: each commit has an order of its own. SEED=7: another one.
SEED ?= $(shell printf '%d' 0x0$$(git rev-parse HEAD 2>/dev/null | cut -c1-7))
test: $(VENV)/.dev chromium postgresql bubblewrap
	@$(BIN)/ruff check src tests benchmarks examples
	@$(BIN)/ruff format --check -q src tests benchmarks examples
	@types=$$(mktemp); $(BIN)/mypy --no-error-summary >$$types 2>&1 & checking=$$!; \
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest --hypothesis-profile=fixed -n $(or $(JOBS),4) --dist loadfile --no-loadscope-reorder --randomly-seed=$(SEED) -rs; tested=$$?; \
	wait $$checking; checked=$$?; cat $$types; rm -f $$types; \
	exit $$((tested ? tested : checked))

test-long: $(VENV)/.dev chromium postgresql bubblewrap
	@$(BIN)/pytest -m "long"

# Mutated model folders under gcc's sanitizers: 25 for each of the 820 whole ones. START and SEEDS:
# others, or fewer. One that went wrong again: $(BIN)/python -m tests.fuzz.run --sanitize --seed N
fuzz: $(VENV)/.dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.run --sanitize --jobs $(or $(JOBS),2) \
	  --start $(or $(START),0) --seeds $(or $(SEEDS),20500)

# Puts small faults into the code, one at a time, and counts those that the tests notice: 360 of
# them, in hours of processor time, most of it for engine and train. MUTANTS=all: every one.
# MODULES="safety serve": only theirs.
mutants: $(VENV)/.dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants.run $(MODULES) --mutants $(or $(MUTANTS),360) --jobs $(or $(JOBS),2)

check: $(VENV)/.dev
	@$(BIN)/ruff check -q src tests benchmarks examples
	@$(BIN)/ruff format --check -q src tests benchmarks examples
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/zensical build --clean --strict
	@$(BIN)/pytest tests/rules

format: $(VENV)/.dev
	@$(BIN)/ruff check -q --fix src tests benchmarks examples
	@$(BIN)/ruff format -q src tests benchmarks examples

QUICKLY := $(if $(QUICK),--quick)

# QUICK=1 with each of these: less work, to see that it runs; nothing is recorded.
bench: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/spine.py $(QUICKLY)

# Answers on documents and questions by others: the tuning half, in some ten minutes on two cores
# once the documents are indexed.
# The other half: $(BIN)/python benchmarks/answers.py --test --why REASON
bench-answers: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/lmstack pull multilingual-e5-small --quiet
	@$(BIN)/python benchmarks/answers.py $(QUICKLY)

bench-questions: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/questions.py $(QUICKLY)

bench-citations: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/citations.py $(QUICKLY)
	@$(BIN)/python benchmarks/conversation.py $(QUICKLY)

bench-seq2seq: $(VENV)/.dev
	@$(BIN)/lmstack pull flan-t5-small-titles --quiet
	@$(BIN)/python benchmarks/seq2seq.py $(QUICKLY)

# Each peer in an environment of its own, built at the first run. SHORT=1: fewer rounds, no vLLM.
bench-serving: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/lmstack pull flan-t5-small-titles --quiet
	@$(BIN)/lmstack pull gemma3-270m --quiet
	@$(BIN)/python benchmarks/serving.py $(QUICKLY) $(if $(SHORT),--short)

bench-adapters bench-quantization bench-speculative: bench-%: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/$*.py $(QUICKLY)

bench-latency: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/lmstack pull smollm2-135m-instruct --quiet
	@$(BIN)/python benchmarks/latency.py $(QUICKLY)

bench-attention bench-vocabularies: bench-%: $(VENV)/.dev
	@$(BIN)/python benchmarks/$*.py $(QUICKLY)

# Needs an environment for each peer, built at the first run; indexes are kept for the next one.
bench-retrieval: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@for model in bge-small-en-v1.5 ms-marco-minilm-l12 colbert-small; do $(BIN)/lmstack pull $$model --quiet; done
	@$(BIN)/python benchmarks/retrieval.py $(QUICKLY)

bench-lookalikes: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/lmstack pull ms-marco-minilm-l12 --quiet
	@$(BIN)/python benchmarks/lookalikes.py $(QUICKLY)

# About three minutes on a quiet machine. BEFORE=OLDER/src: also an older tree, in turns with this.
bench-start: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/start.py $(QUICKLY) $(if $(BEFORE),--before $(BEFORE))

# Some three minutes. BEFORE=OLDER/src: also an older tree, before this one, which takes longer.
bench-attacks: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/lmstack pull smollm2-135m-instruct --quiet
	@$(BIN)/python benchmarks/attacks.py $(QUICKLY) $(if $(BEFORE),--before $(BEFORE))

# About ten minutes on a quiet machine; the first time also environments for the peers and
# the vectors of a hundred thousand passages.
bench-speed: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/speed.py $(QUICKLY)

# `index add` beside what embeds its passages: each peer in an environment of its own, built at the
# first run. About twenty minutes on a quiet machine.
bench-indexing: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/indexing.py $(QUICKLY)

# Fine-tuning beside transformers' Trainer with PEFT and TRL, in an environment of their own, built
# at the first run. About half an hour on a quiet machine.
bench-training: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/training.py $(QUICKLY)

# Classifiers, a tagger and an embedder, beside transformers' Trainer in the same environment.
# Hours on two cores: each is made three times. `python benchmarks/training_tasks.py --seeds 1 --only
# ner` makes one of them once (ner: five folds, a quarter of an hour).
bench-training-tasks: $(VENV)/.dev
	@$(BIN)/lmstack pull all-minilm-l6-v2 --quiet
	@$(BIN)/python benchmarks/training_tasks.py $(QUICKLY)

# A reward model on ratings by people, and how often it ranks two conversations as they did.
bench-reward: $(VENV)/.dev
	@$(BIN)/lmstack pull all-minilm-l6-v2 --quiet
	@$(BIN)/python benchmarks/reward_ratings.py $(QUICKLY)

# Constitutional AI from prompts to DPO, killed and resumed in every stage.
bench-constitutional: $(VENV)/.dev
	@$(BIN)/lmstack pull smollm2-135m-instruct --quiet
	@$(BIN)/python benchmarks/constitutional.py $(QUICKLY)

# Steps of GRPO beside TRL's, in the same environment. About ten minutes on a quiet machine.
bench-grpo: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/grpo.py $(QUICKLY)

# A thousand schemas, extraction, masks and forced tokens: twenty minutes on two cores.
bench-structured: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/structured.py $(QUICKLY)

# Likelihoods beside lm-evaluation-harness, with transformers and through our server: an hour or so on
# two cores, most of it transformers'.
.PHONY: bench-likelihoods
bench-likelihoods: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/likelihoods.py $(QUICKLY)

# The default model as a judge of refusals that people labelled: agreement, biases, failures. Some
# minutes.
.PHONY: bench-judging
bench-judging: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/judging.py $(QUICKLY)

# Agents of small models beside pydantic-ai and smolagents, which are in the dev extra.
bench-agents: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/agents.py $(QUICKLY)

# DPO and cDPO on pairs that a rule labels, right or in part wrong, judged by the rule.
bench-preferences: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/preferences.py $(QUICKLY)

# A reward that can be verified, before and after PPO and GRPO: sums, by a small model that was
# taught badly. Some minutes.
.PHONY: bench-sums
bench-sums: $(VENV)/.dev
	@$(BIN)/python benchmarks/sums.py $(QUICKLY)

# JSON by schemas of others, by the default model before and after GRPO. An hour or more.
.PHONY: bench-verifiable
bench-verifiable: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/verifiable.py $(QUICKLY)

# Faults planted in the default model, and what the gate says of each. About twenty minutes.
.PHONY: bench-regressions
bench-regressions: $(VENV)/.dev
	@$(BIN)/lmstack pull --quiet
	@$(BIN)/python benchmarks/regressions.py $(QUICKLY)

# How often the gate errs, by simulation. Minutes.
.PHONY: bench-gate-rates
bench-gate-rates: $(VENV)/.dev
	@$(BIN)/python benchmarks/gate_rates.py $(QUICKLY)

# The command reference, and the pages as a site in build/site, without a warning.
docs: $(VENV)/.dev
	@$(BIN)/python -m lmstack.app.cli.docs
	@$(BIN)/zensical build --clean --strict

clean:
	rm -rf $(VENV) build *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The page's tests drive the system's Chromium, with two sets of fonts: its headless shell, which
# takes less processor time, or the browser where there is no shell. As root on a Debian machine
# they are installed; elsewhere the command is printed and those tests are skipped with the same
# words.
FONTS := /usr/share/fonts/truetype
.PHONY: chromium
chromium:
	@has() { command -v $$1 >/dev/null 2>&1; }; \
	get() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$$@" >/dev/null; }; \
	missing=; \
	[ -e $(FONTS)/dejavu/DejaVuSans-ExtraLight.ttf ] || missing="$$missing fonts-dejavu-extra"; \
	[ -e $(FONTS)/liberation/LiberationSans-Regular.ttf ] || missing="$$missing fonts-liberation"; \
	if [ "$$(id -u)" = 0 ] && has apt-get; then \
	  if has chromium-headless-shell && [ -z "$$missing" ]; then exit 0; fi; \
	  echo "Installing Chromium's headless shell and fonts for the page's tests ..."; \
	  apt-get update -qq; \
	  has chromium-headless-shell || get chromium-headless-shell || has chromium || get chromium || exit 1; \
	  [ -z "$$missing" ] || get $$missing; \
	else \
	  has chromium-headless-shell || has chromium || missing="$$missing chromium-headless-shell"; \
	  [ -z "$$missing" ] || { \
	    echo "Some of the page's tests will be skipped. To run them:"; \
	    echo "  sudo apt-get install"$$missing; }; \
	fi

# The tests of PostgreSQL start a server of their own, with pgvector. The same holds.
.PHONY: postgresql
postgresql:
	@ls /usr/share/postgresql/*/extension/vector.control >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "Installing PostgreSQL and pgvector for the tests of stores ..."; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-17 postgresql-17-pgvector >/dev/null; \
	  else \
	    echo "pgvector is missing, so the tests of PostgreSQL will be skipped. To run them:"; \
	    echo "  sudo apt-get install postgresql-17 postgresql-17-pgvector"; \
	  fi; }

# What the sandbox of other people's code is made with.
.PHONY: bubblewrap
bubblewrap:
	@command -v bwrap >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "Installing bubblewrap for the tests of the sandbox ..."; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bubblewrap >/dev/null; \
	  else \
	    echo "bubblewrap is missing, so the tests of the sandbox will be skipped. To run them:"; \
	    echo "  sudo apt-get install bubblewrap"; \
	  fi; }

# One environment; the dev extra is added on top of it. Versions are those of constraints.txt,
# but for torch, whose build depends on the machine.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "lmstack needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11")'
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25"

$(VENV)/.base: pyproject.toml constraints.txt $(NATIVE) | $(VENV)/bin/python
	@echo "Installing lmstack (torch is the large part) ..."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@$(NATIVE_MISSING)
	@touch $@

# lmstack itself is there by then, so this does not compile its native ops once more.
# Nor is bytecode made of tools of which tests use a part: it took longer than all the rest.
$(VENV)/.dev: $(VENV)/.base
	@echo "Installing the development tools ..."
	@$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt 'lmstack[dev]'
	@touch $@
