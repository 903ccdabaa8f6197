#!/usr/bin/env bash
# Without their dependencies: those serve clouds, web pages, evaluations and kernels for GPUs, some of them for CUDA alone.
# bitsandbytes and triton are imported by its trainer, and their wheels load without a GPU.
set -euo pipefail
pip install --quiet --disable-pip-version-check --no-deps axolotl==0.19.0 axolotl-contribs-lgpl==0.0.7 \
  axolotl-contribs-mit==0.0.6 bitsandbytes==0.50.2 triton==3.9.0
