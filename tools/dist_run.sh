#!/usr/bin/env bash
# Runs a tool with several processes: one for each GPU, or on CPUs if there is
# no GPU. For several nodes, run this script on each node and set NNODES,
# NODE_RANK, MASTER_ADDR and PORT. dist_train.sh and dist_test.sh call it.
if [ $# -lt 3 ]; then
    echo "usage: tools/dist_run.sh PROCESSES TOOL ARGUMENTS..." >&2
    exit 2
fi
HERE=$(dirname "$0")

PYTHONPATH="$HERE/..${PYTHONPATH:+:$PYTHONPATH}" \
    exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$1" \
    "$HERE/$2" "${@:3}" --launcher pytorch
