#!/bin/sh
# What both images do, in Debian 12 with the sources in /src: Python, an environment in /opt/fs, fs on the PATH.
#   EXTRAS       optional parts, such as s3,cluster
#   TORCH_INDEX  where PyTorch comes from; PyPI's build brings CUDA, the driver is the node's
set -eu
EXTRAS=${EXTRAS:-s3,cluster}
TORCH_INDEX=${TORCH_INDEX:-https://pypi.org/simple}

apt-get update
# libgomp1: PyTorch and scikit-learn; all other libraries are in the wheels.
apt-get install --yes --no-install-recommends python3 python3-venv ca-certificates libgomp1
rm -rf /var/lib/apt/lists/*

python3 -m venv /opt/fs
# PyTorch first and alone: what follows finds it installed, whatever index it is from.
/opt/fs/bin/pip install --no-cache-dir -c /src/constraints.txt --index-url "$TORCH_INDEX" torch
/opt/fs/bin/pip install --no-cache-dir -c /src/constraints.txt "/src[$EXTRAS]"
ln -s /opt/fs/bin/fs /usr/local/bin/fs
# An image that cannot start is none.
fs --version
/opt/fs/bin/python -c "import extractors, featurestore, probes, soundfile, soxr, studies, torch, transformers, zarr"
