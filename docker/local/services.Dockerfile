# PostgreSQL, HAProxy and Prometheus from Debian's own packages, in one image: for machines that reach no registry.
# scripts/test-docker.sh builds it from a base of debootstrap, and docker/compose.yaml takes it for all three.
ARG BASE=gavel-local/debian
FROM ${BASE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends haproxy postgresql prometheus \
    && rm -rf /var/lib/apt/lists/* \
    && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ \
    && install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data
COPY docker/local/postgres-entrypoint.sh /usr/local/bin/
ENTRYPOINT ["postgres-entrypoint.sh"]
