# NOT RUN ON A GPU. Build in a clone after `make dist`, run with the devices and room for shared memory:
#   docker build -t kimi_plugins .
#   docker run --gpus all --shm-size=64g -v $PWD/runs:/runs kimi_plugins openrlhf kimi doctor --dir /runs
# Code rewards isolate programs: `docker run --privileged …`, see docs/sandbox.md. torch 2.13.0 is built for CUDA 13.0;
# "devel" has nvcc, with which DeepSpeed compiles its optimizer at first use. Kubernetes needs requirements-cluster.txt:
# KubeRay submits the run as a job and asks Ray's dashboard, before KubeRay 1.6 by wget, whether a pod is well.
FROM nvidia/cuda:13.0.2-devel-ubuntu24.04

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends -y g++ git libnuma1 python3-dev python3-venv wget \
    && rm -rf /var/lib/apt/lists/*

ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH CUDA_HOME=/usr/local/cuda
COPY build/dist /opt/dist
RUN python3 -m venv "$VIRTUAL_ENV" \
    && pip install --no-cache-dir --no-deps -r /opt/dist/requirements-cuda.txt -r /opt/dist/requirements-cluster.txt

WORKDIR /runs
CMD ["openrlhf", "kimi", "doctor"]
