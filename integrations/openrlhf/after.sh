#!/usr/bin/env bash
# Without its dependencies: flash-attn, DeepSpeed and bitsandbytes need a GPU, and what is checked here needs none of them.
set -euo pipefail
pip install --quiet --disable-pip-version-check --no-deps openrlhf==0.11.2
