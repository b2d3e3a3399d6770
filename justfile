# `just` lists what there is, each by the last line of its comment.

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

# 100000 sequences of a malicious gateway with a colluding signer, 10000 killed signers, every bit of every field, 500 ceremonies cut
# off at any moment. Some minutes each.
# The attacks on the signers at full count.
attack:
    CASES=100000 cargo test --release -p signer --lib -- node::tests::attack --nocapture
    CASES=10000 cargo test --release -p signer --lib -- node::tests::nonces node::tests::fields --nocapture
    CASES=500 cargo test --release --test apart -- any_moment --nocapture

# A million transactions on Ethereum and as many on Solana, and a thousand policies against trying everything. Some minutes.
# The policy's evaluator against naive interpreters.
policy:
    CASES=1000000 cargo test --release -p signer --test policy_model -- --nocapture

# The seed stands before each round. Some minutes each.
# The suites with property tests, so many times, with random cases that nobody has seen.
properties ROUNDS="5":
    #!/usr/bin/env bash
    set -euo pipefail
    for _ in $(seq {{ROUNDS}}); do
        export PROPTEST_RNG_SEED=$((RANDOM << 15 | RANDOM))
        echo "PROPTEST_RNG_SEED=$PROPTEST_RNG_SEED"
        cargo test --quiet --workspace --lib --test bitcoin --test ethereum --test solana --test bitcoin_engine --test policy \
            --test limits --test evidence
    done

# The last line before the result tells what came of them. About half a second each.
# The life of a transaction against its reference: so many random sequences of crashes, pauses, reorgs and lies.
model CASES="3000":
    PROPTEST_CASES={{CASES}} cargo test -p gateway --test model -- --nocapture

# Restarts it each time, and holds what it made of it against the chain. Some 210 cells; `--runs N`, `--chain`, `--store`, `--point`.
# Kills the gateway at every step of a payment, on each chain with each store.
crash-matrix *ARGS:
    cargo run --release --features failpoints,mutations -- sim crash-matrix {{ARGS}}

# Switches known bugs on in the gateway, one at a time, and sees that the crash matrix catches each.
mutation-check *ARGS:
    cargo run --release --features failpoints,mutations -- sim mutation-check {{ARGS}}

# Needs `cargo install cargo-fuzz --locked`. Seeds are in `tests/fuzz/seeds`; what a run finds stays in `tests/fuzz/corpus`.
# Every fuzz target for so many seconds, one after the other.
fuzz SECONDS="60":
    tests/fuzz/run {{SECONDS}}

# One scenario on simulated chains, by name or file: `just scenario reorg-storm --report out.html`.
scenario NAME *ARGS:
    cargo run --release --features failpoints,mutations -- sim run {{NAME}} {{ARGS}}

# All scenarios that come with the binary, with their reports in target/scenarios.
scenarios *ARGS:
    cargo run --release --features failpoints,mutations -- sim scenarios --reports target/scenarios {{ARGS}}

# The same, each broken on purpose: each must fail by the claim that it names.
scenarios-broken *ARGS:
    cargo run --release --features failpoints,mutations -- sim scenarios --broken --reports target/scenarios-broken {{ARGS}}

# It is built once from Bitcoin Core's source (some twenty minutes on one core; cached outside of the checkout). The parity with anvil
# is among the ordinary tests.
# Holds the simulated Bitcoin node, bitcoin-cli and the gateway's own client against a real bitcoind.
parity:
    programs="$(tests/tools/bitcoind/build)" && PORTCULLIS_BITCOIND="$programs" \
        cargo test --locked -p simulator --test parity --test clients -- --ignored --nocapture bitcoind bitcoin_cli
