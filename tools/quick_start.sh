#!/usr/bin/env bash
# Sets everything up, then runs tools/quick_start.py with the same arguments.
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/dev/find_python.sh"

for argument in "$@"; do
    if [ "$argument" = -h ] || [ "$argument" = --help ]; then
        echo 'usage: bash tools/quick_start.sh [options of quick_start.py]'
        echo
        set_up_help
        echo
        python=${MMFMKT_VENV:-$root_dir/.venv}/bin/python
        if [ ! -x "$python" ]; then
            echo 'The options of quick_start.py are shown here after the' \
                'set-up.'
            exit
        fi
        exec "$python" "$root_dir/tools/quick_start.py" --help
    fi
done

# The set-up runs in the background in its own process group, and a signal to
# this script is passed on to it: bash runs a trap immediately only in `wait`.
output=$(mktemp)
exec 3>"$output" 4<"$output"
rm "$output"
end_set_up() {
    kill -TERM -- "-$!" || true
    wait "$!" || true
    exit "$1"
}
trap 'end_set_up 129' HUP
trap 'end_set_up 130' INT
trap 'end_set_up 143' TERM
set -m
{
    # Runs when the set-up has ended, after its clean-up.
    trap 'exit 143' TERM
    set_up
} >&3 &
set +m
wait "$!"
read -r python <&4
exec 3>&- 4<&-
cd "$root_dir"
exec "$python" tools/quick_start.py "$@"
