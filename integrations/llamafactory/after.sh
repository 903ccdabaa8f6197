#!/usr/bin/env bash
# Without its dependencies: torchvision, gradio and others serve images and the web page. torchaudio is imported all the same; its
# compiled parts are for CUDA and don't load beside a torch for CPUs, and nothing calls them when the data is text.
set -euo pipefail
pip install --quiet --disable-pip-version-check --no-deps llamafactory==0.9.5 torchaudio==2.11.0
python -c "import torch, sys; sys.exit(torch.version.cuda is not None)" &&
  rm -f "$(python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"/torchaudio/lib/*.so || true
