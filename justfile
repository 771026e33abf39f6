# Shortcuts; the README's commands need none of them.

default:
    @just --list

# Run the demo.
demo *ARGS:
    cargo run --release -p weft -- demo {{ARGS}}

# What the gate checks first.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# All tests.
test:
    cargo test --workspace

# The tests beside the code over and over, each time with other made-up inputs: what the gate's fixed seed does not see.
explore ROUNDS="20" *ARGS:
    for round in $(seq {{ROUNDS}}); do cargo test --workspace --lib --quiet {{ARGS}} || exit 1; done

# Fuzz each target, or those that are named.
fuzz SECONDS="60" *TARGETS:
    fuzz/run {{SECONDS}} {{TARGETS}}

# A mesh on a simulated network; WEFT_SIM_SEED repeats a scenario's chance.
simulation *ARGS:
    RUSTC_WORKSPACE_WRAPPER={{justfile_directory()}}/tests/simulation/rustc cargo test --workspace --test simulation {{ARGS}}

# Write the definitions of Weft's own kinds anew, from the types.
crds:
    WEFT_REGENERATE=1 cargo test -p weft-control-plane --lib model::crd

# What speaks Kubernetes, against the API server that KUBECONFIG names, or the one in memory.
test-k8s *ARGS:
    cargo test -p weft-tests --test kubernetes {{ARGS}}

# Measure Weft beside other sidecars, as root (docs/performance.md); --quick for a few minutes.
bench *ARGS:
    bench/run {{ARGS}}

# Count the instructions of the hot path (docs/performance.md); --write for a new baseline, --rounds 5 for the spread.
instructions *ARGS:
    bench/count {{ARGS}}

# The whole gate.
ci:
    .ci/run
