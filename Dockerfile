FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/venv
# The libraries come first: they change less often than the sources, and their layer is kept.
COPY requirements.lock ./
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-compile -r requirements.lock
COPY pyproject.toml README.md ./
COPY operator operator
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --no-deps --no-index /wheels/*.whl \
 && pip --python /opt/venv/bin/python check
# Bytecode that is trusted without a look at its source: the file system is read-only, and a start is quicker.
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="lucid-storage" \
      org.opencontainers.image.description="Kubernetes operator for the data layer: MongoDB, Redis, Elasticsearch and volumes" \
      org.opencontainers.image.licenses="MIT"
# The user has no entry in /etc/passwd, and the Kubernetes client looks for a home when it is imported.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/
COPY --from=build /opt/venv /opt/venv
USER 65532:65532
EXPOSE 8089 8081
ENTRYPOINT ["lucid-storage"]
CMD ["operator"]
