#!/usr/bin/env bash
# Trains with several processes or on several nodes, see dist_run.sh.
if [ $# -lt 2 ]; then
    echo "usage: tools/dist_train.sh CONFIG PROCESSES [options of train.py]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/dist_run.sh" "$2" train.py "$1" "${@:3}"
