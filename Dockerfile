# lmstack server. CPU by default:
#   docker build -t lmstack .
# CUDA (torch's default wheels carry it):
#   docker build -t lmstack:cuda --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 .
# Run with your documents and a volume for models and indexes; keys are required off localhost:
#   docker run -p 8000:8000 -e LMSTACK_API_KEYS=... -v ./docs:/docs:ro -v lmstack:/data lmstack
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# The CUDA base has no Python; python:3.11 has one on PATH already.
RUN command -v python3 >/dev/null \
    || (apt-get update \
        && apt-get install -y --no-install-recommends python3 python3-venv \
        && rm -rf /var/lib/apt/lists/*)

RUN useradd --create-home --uid 10001 lmstack \
    && mkdir -p /data /docs \
    && chown lmstack:lmstack /data
WORKDIR /app
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY recipes ./recipes
COPY src ./src
# The compiler is for the native ops, and goes again once they are built.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && python3 -m venv /app/.venv \
    && /app/.venv/bin/pip install --no-cache-dir --constraint constraints.txt '.[remote]' \
    && apt-get purge -y --auto-remove gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

USER lmstack
ENV LMSTACK_HOME=/data \
    PATH=/app/.venv/bin:$PATH
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# The image holds no weights: the first start pulls the defaults into /data.
CMD ["sh", "-c", "lmstack pull && exec lmstack up /docs --host 0.0.0.0 --port 8000"]
