# The official benchmark with this repository. docs/official.md says how to build and run it.
# For CPUs and for NVIDIA GPUs alike: PyTorch's packages bring CUDA, the host brings the driver.
ARG BASE=python:3.11-bookworm
FROM ${BASE}

# The interpreter of the base; it must be Python 3.11, which the benchmark is pinned to.
ARG PYTHON=python3
# The benchmark's own versions by default; 2.13.0 and 0.28.0 are those tested here without a GPU.
ARG TORCH=2.9.0
ARG TORCHVISION=0.24.0
# A further package index, such as PyTorch's of packages without CUDA.
ARG PIP_EXTRA_INDEX_URL

ENV PIP_NO_CACHE_DIR=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# The compiler is for torch.compile, the programs after it for `make data`.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
       build-essential git make ffmpeg pigz tar unzip wget \
    && rm -rf /var/lib/apt/lists/* \
    && "${PYTHON}" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed")'

WORKDIR /shampoo

# Environments depend on these files alone, so that a change of the sources does not build them anew.
COPY Makefile requirements.txt requirements-jax.txt requirements-data.txt requirements-algoperf.txt ./
# hadolint ignore=DL3059
RUN make setup PYTHON="${PYTHON}"
# hadolint ignore=DL3059
RUN make algoperf PYTHON="${PYTHON}" TORCH="${TORCH}" TORCHVISION="${TORCHVISION}"

# With .git, by which logs name their commit.
COPY . .

ENTRYPOINT ["make"]
CMD ["help"]
