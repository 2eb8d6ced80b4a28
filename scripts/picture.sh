#!/usr/bin/env bash
# A picture of a page that draws itself, for docs/pictures:
#
#   scripts/picture.sh http://127.0.0.1:9091/consoles/gavel.html docs/pictures/dashboard.png
#
# Uses Debian's chromium, with a new profile, and lets it ask nobody else for anything.
set -euo pipefail

[ $# -eq 2 ] || { echo "picture: use: scripts/picture.sh URL FILE" >&2; exit 2; }
command -v chromium >/dev/null || { echo "picture: there is no chromium; on Debian: apt-get install chromium" >&2; exit 1; }

profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
# --no-sandbox: Chromium's own does not work as root. Time is virtual: the page has three seconds, and its answers as
# long as they take.
chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$profile" \
    --window-size="${SIZE:-1400,1500}" --virtual-time-budget=3000 --screenshot="$(realpath -m "$2")" "$1" 2>"$profile/log" \
    || { tail -5 "$profile/log" >&2; exit 1; }
[ -s "$2" ] || { echo "picture: Chromium made no picture of $1" >&2; exit 1; }
