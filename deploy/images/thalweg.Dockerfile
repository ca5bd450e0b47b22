# Our processes, one target an image: streams (the workers and the lag exporter), upload, query, tools (one-shot steps
# and the command). Built from the checkout's top: docker build -f deploy/images/thalweg.Dockerfile --target query .
#
# Order: packages (change with the lock), the model (changes with its builder), our code (changes daily).

FROM python:3.11-slim-bookworm AS python
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH

FROM python AS builder
RUN python -m venv /opt/venv
WORKDIR /build
COPY requirements.lock ./
COPY deploy/images/packages.py deploy/images/

# Each image's part of the lock. --require-hashes refuses a package that the list lacks, --only-binary needs no compiler.
# langdetect (of unstructured) comes as source only, pure Python: built with the lock's setuptools, not just any.
FROM builder AS streams-packages
COPY deploy/images/streams.packages.txt deploy/images/
RUN --mount=type=cache,target=/root/.cache/pip \
    echo setuptools > setuptools.txt \
    && python deploy/images/packages.py requirements.lock setuptools.txt > setuptools.lock \
    && pip install --require-hashes --only-binary :all: -r setuptools.lock \
    && python deploy/images/packages.py requirements.lock deploy/images/streams.packages.txt > chosen.lock \
    && pip install --require-hashes --only-binary :all: --no-binary langdetect --no-build-isolation -r chosen.lock

FROM builder AS upload-packages
COPY deploy/images/upload.packages.txt deploy/images/
RUN --mount=type=cache,target=/root/.cache/pip \
    python deploy/images/packages.py requirements.lock deploy/images/upload.packages.txt > chosen.lock \
    && pip install --require-hashes --only-binary :all: -r chosen.lock

FROM builder AS query-packages
COPY deploy/images/query.packages.txt deploy/images/
RUN --mount=type=cache,target=/root/.cache/pip \
    python deploy/images/packages.py requirements.lock deploy/images/query.packages.txt > chosen.lock \
    && pip install --require-hashes --only-binary :all: -r chosen.lock

# The embedding model, made by the very code of `thalweg setup` and checked against deploy/local/parts.lock.json.
FROM query-packages AS model
COPY runtime/__init__.py runtime/
COPY runtime/embedding runtime/embedding
COPY deploy/__init__.py deploy/
COPY deploy/local deploy/local
RUN THALWEG_CACHE=/cache python -c "import shutil; from deploy.local.parts import prepare; \
shutil.copytree(prepare(['embedder'])['embedder'], '/model')"

FROM python AS base
RUN groupadd --gid 10001 thalweg \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/thalweg --shell /usr/sbin/nologin thalweg \
    && install -d -o 10001 -g 10001 /var/lib/thalweg
WORKDIR /app
# The parsers' children run elsewhere and find the code by this.
ENV PYTHONPATH=/app THALWEG_HOME=/var/lib/thalweg READY_PORT=9100
COPY schemas schemas
COPY runtime runtime
COPY thalweg thalweg
USER 10001:10001
ENTRYPOINT ["python", "-m", "thalweg"]
CMD ["--help"]
# Every process of ours serves /ready; http.client, since no proxy of the environment may come between.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['READY_PORT']), timeout=4); c.request('GET', '/ready'); sys.exit(c.getresponse().status != 200)"]

FROM base AS streams
COPY --from=streams-packages /opt/venv /opt/venv
COPY --from=model /model /opt/thalweg/model
COPY streams streams
# A worker's health and metrics: inside the container every address is the container's own.
ENV THALWEG_EMBEDDING__PATH=/opt/thalweg/model THALWEG_METRICS__HOST=0.0.0.0 THALWEG_METRICS__PORT=9100 \
    THALWEG_LAG_EXPORTER__HOST=0.0.0.0
EXPOSE 9100 9308

FROM streams AS tools
COPY connectors connectors
COPY query_api query_api
HEALTHCHECK NONE

FROM base AS upload
COPY --from=upload-packages /opt/venv /opt/venv
COPY connectors connectors
ENV THALWEG_UPLOAD__HOST=0.0.0.0 READY_PORT=8001
EXPOSE 8001
CMD ["serve", "upload"]

FROM base AS query
COPY --from=query-packages /opt/venv /opt/venv
COPY --from=model /model /opt/thalweg/model
COPY query_api query_api
ENV THALWEG_EMBEDDING__PATH=/opt/thalweg/model THALWEG_QUERY__HOST=0.0.0.0 READY_PORT=8000
EXPOSE 8000
CMD ["serve", "query"]
