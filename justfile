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

# Fuzz each target, or those that are named.
fuzz SECONDS="60" *TARGETS:
    fuzz/run {{SECONDS}} {{TARGETS}}

# The whole gate.
ci:
    .ci/run
