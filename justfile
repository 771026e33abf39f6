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

# The whole gate.
ci:
    .ci/run
