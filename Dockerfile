# The demo in an empty Debian: docker build -t oce2stardist . && docker run --rm -v "$PWD:/out" oce2stardist
# Without docker, `python benchmarks/empty_debian.py dockerfile` runs the same steps.
FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY constraints.txt pyproject.toml setup.py README.md LICENSE ./
COPY oce2stardist ./oce2stardist
COPY cli ./cli
COPY configs ./configs
RUN python3 -m venv /venv
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt torch
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt .
WORKDIR /out
CMD ["/venv/bin/oce2stardist", "demo", "-o", "/out/demo-run"]
