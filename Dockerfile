# The image of tars-registry: Python, the locked requirements and the wheel, as a user without rights. Needs
# nothing of BuildKit. Build: docker build --build-arg VERSION=0.1.0 -t tars-registry:0.1.0 .

# An ARG, so that a mirror's name or a digest can be put in its place.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The requirements first: a change of the sources leaves this layer as it is. The wheel is built by a venv of
# its own, so that setuptools is not shipped.
COPY requirements/run.txt requirements/build.txt requirements/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
    && python3 -m venv /opt/tars-registry \
    && /opt/tars-registry/bin/pip install --require-hashes --no-compile -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY jce jce
COPY tars_protocol tars_protocol
COPY registry registry
# Byte code is made here, once and with hashes instead of times: the file system may be read-only later. pip has
# no use in the image.
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/tars-registry/bin/pip install --no-deps --no-index --no-compile /dist/*.whl \
    && /opt/tars-registry/bin/pip uninstall --yes pip setuptools \
    && /opt/tars-registry/bin/python -m compileall -q --invalidation-mode unchecked-hash \
        /opt/tars-registry/lib

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="tars-registry" \
      org.opencontainers.image.description="The registry of the TARS RPC framework, for Kubernetes" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.vendor="The tars-registry authors"
COPY --from=build /opt/tars-registry /opt/tars-registry
ENV PATH=/opt/tars-registry/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes can see that it is not root (runAsNonRoot). It owns no file.
USER 10001:10001
WORKDIR /
# 17890 queries (QueryObj), 17891 reports of nodes and servers (RegistryObj), 17893 health and metrics.
EXPOSE 17890 17891 17893
STOPSIGNAL SIGTERM
ENTRYPOINT ["tars-registry"]
CMD ["serve"]
