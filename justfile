# `just` lists what there is.

default:
    @just --list

# Starts simulated chains, signers and the gateway.
dev *ARGS:
    cargo run --release -- dev {{ARGS}}

# One payment of each kind, from JSON-RPC to finality; exits 0 when all are final and the balances add up.
demo:
    cargo run --release -- dev --demo

# What CI runs.
check:
    .ci/run

# The tests alone.
test:
    tests/run

# Benches, by criterion.
bench *ARGS:
    cargo bench --workspace {{ARGS}}
