#!/usr/bin/env bash
# Sets up the environment, then runs tools/quick_start.py with the same
# arguments.
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

# The set-up runs in the background, since bash runs a trap immediately only in
# `wait`. It has its own process group, to which the traps pass signals. It
# prints the path of Python, which file descriptors 3 and 4 write and read.
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
    # This trap runs after the command of the set-up has ended.
    trap 'exit 143' TERM
    set_up
} >&3 &
set +m
wait "$!"
read -r python <&4
exec 3>&- 4<&-
cd "$root_dir"
exec "$python" tools/quick_start.py "$@"
