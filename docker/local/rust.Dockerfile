# A Rust toolchain and the crates of Cargo.lock, both of the machine that builds: for machines that reach no registry.
# Its context is a folder that scripts/test-docker.sh makes: `toolchain` and `cargo`.
ARG BASE=gavel-local/debian
FROM ${BASE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates gcc g++ libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
COPY toolchain/ /usr/local/
COPY cargo/ /usr/local/cargo/
ENV CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true
