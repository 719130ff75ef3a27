# The image of tars-registry: Python, the libraries that it needs, the locked requirements and the wheel; no shell, no
# package manager, no compiler. docs/image.md says how to build and run it:  make image

# An ARG, so that a mirror's name, a digest or a newer point release can be put in its place. Debian 12: its Python is
# 3.11, the oldest that the project runs on.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
# Without versions: Debian keeps only the newest of a release, and the newest has its security fixes.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get upgrade --yes \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3.11 python3.11-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The requirements first: a change of the sources leaves these layers as they are. The wheel is built by a venv of its
# own, and its pip installs into the other, so that neither pip nor setuptools is ever in what is shipped.
# Both secrets are optional and are in no layer: a pip.conf, and the certificates of an authority (PEM) to trust.
COPY requirements/run.txt requirements/build.txt requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem,target=/run/secrets/ca.pem \
    if [ -s /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi \
    && python3.11 -m venv /opt/build \
    && /opt/build/bin/pip install --no-deps --require-hashes -r requirements/build.txt \
    && python3.11 -m venv --without-pip /opt/tars-registry \
    && /opt/build/bin/pip --python /opt/tars-registry/bin/python install \
        --no-deps --require-hashes --no-compile --only-binary :all: -r requirements/run.txt
COPY image/root_files.py image/
RUN python3.11 image/root_files.py --for /opt/tars-registry --into /root-files
COPY pyproject.toml README.md LICENSE ./
COPY jce jce
COPY tars_protocol tars_protocol
COPY registry registry
# Byte code is made here, once and with hashes instead of times: the file system may be read-only later.
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/build/bin/pip --python /opt/tars-registry/bin/python install --no-deps --no-index --no-compile /dist/*.whl \
    && rm /opt/tars-registry/bin/[Aa]ctivate* \
    && python3.11 -m compileall -f -q --invalidation-mode unchecked-hash /opt/tars-registry/lib

FROM scratch
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="tars-registry" \
      org.opencontainers.image.description="The registry of the TARS RPC framework, for Kubernetes" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.vendor="The tars-registry authors"
COPY --from=build /root-files /
COPY --from=build /opt/tars-registry /opt/tars-registry
# PYTHONMALLOC: what a flood of callers took can be given back from the C library's heap, from Python's own it can't
# (docs/limits.md).
ENV PATH=/opt/tars-registry/bin:/usr/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONMALLOC=malloc \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes can see that it is not root (runAsNonRoot). It owns no file.
USER 10001:10001
WORKDIR /
# 17890 queries (QueryObj), 17891 reports of nodes and servers (RegistryObj), 17893 health and metrics.
EXPOSE 17890 17891 17893
STOPSIGNAL SIGTERM
# No HEALTHCHECK: Kubernetes has probes (/healthz and /readyz) and ignores it, and elsewhere it would start a Python
# every few seconds to ask what any HTTP client can ask.
ENTRYPOINT ["tars-registry"]
CMD ["serve"]
