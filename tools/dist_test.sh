#!/usr/bin/env bash
# Evaluates with several processes or on several nodes, see dist_run.sh.
if [ $# -lt 3 ]; then
    echo "usage: tools/dist_test.sh CONFIG CHECKPOINT PROCESSES" \
        "[options of test.py]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/dist_run.sh" "$3" test.py "$1" "$2" "${@:4}"
