#!/usr/bin/env bash
# Trains with several processes: one for each GPU, or on CPUs where there is
# no GPU. On several nodes, run it on each with NNODES, NODE_RANK, MASTER_ADDR
# and PORT set.
if [ $# -lt 2 ]; then
    echo "usage: tools/dist_train.sh CONFIG PROCESSES [options of train.py]" >&2
    exit 2
fi
CONFIG=$1
PROCESSES=$2
HERE=$(dirname "$0")

PYTHONPATH="$HERE/..${PYTHONPATH:+:$PYTHONPATH}" \
    exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$PROCESSES" \
    "$HERE/train.py" "$CONFIG" --launcher pytorch "${@:3}"
