# The commands that people use often; `just` lists them.

_default:
    @just --list

# Format everything.
fmt:
    cargo fmt --all

# What CI says about style.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Licences, bans and sources of the dependencies (needs cargo-deny).
deny:
    cargo deny --locked check bans licenses sources

# All tests that this machine can run.
test:
    cargo test --workspace

# What takes too long for every change: every scenario on every engine, ten rotations, walks of 500 changes.
nightly:
    DBCLAIM_WALK_TRANSITIONS=500 cargo test --workspace --tests --no-fail-fast -- --include-ignored

# Generate the CRDs, for people and for the chart.
crds:
    cargo run --quiet -- crd > crds/databaseclaims.platform.acme.com.yaml
    cp crds/*.yaml charts/dbclaim/files/crds/

# A Kubernetes on this machine with the operator of this working copy in it, until Ctrl-C.
up:
    cargo devcluster up --operator

# The demo.
demo:
    cargo demo

# Everything that CI does.
ci:
    bash .ci/run
