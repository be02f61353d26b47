# fs for GPU nodes: docker build -t fs . && docker run --rm --gpus all -v "$PWD:/work" fs doctor
# For a machine without a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu
# docs/containers.md says more, and what of this was tried.
FROM debian:bookworm-slim

ARG EXTRAS=s3,cluster
ARG TORCH_INDEX=https://pypi.org/simple

COPY pyproject.toml constraints.txt README.md LICENSE cli.py /src/
COPY featurestore /src/featurestore
COPY extractors /src/extractors
COPY probes /src/probes
COPY studies /src/studies
COPY docs/containers/install.sh /src/
RUN EXTRAS="$EXTRAS" TORCH_INDEX="$TORCH_INDEX" sh /src/install.sh

# Models, caches and results are the user's: nothing is written into the image.
ENV HF_HOME=/work/.huggingface XDG_CACHE_HOME=/work/.cache
WORKDIR /work
ENTRYPOINT ["fs"]
