#!/usr/bin/env bash
# Splits a program from what only debuggers and backtraces need of it:
#
#   scripts/split-debug.sh PROGRAM FOLDER    writes FOLDER/NAME, small, and FOLDER/NAME.debug
#
# The small one names the other and its checksum, so a backtrace finds it beside the program, or in /usr/lib/debug.
# PROGRAM itself stays as it is: cargo would otherwise take what was stripped for what it built.
set -euo pipefail

[ $# -eq 2 ] || { echo "split-debug: use: scripts/split-debug.sh PROGRAM FOLDER" >&2; exit 2; }
command -v objcopy >/dev/null || { echo "split-debug: there is no objcopy; on Debian: apt-get install binutils" >&2; exit 1; }

name=$(basename "$1")
mkdir -p "$2"
program=$(readlink -f "$1")
cd "$2"
# Each beside its place, then there: a program that runs is not overwritten.
objcopy --only-keep-debug --compress-debug-sections=zlib "$program" "$name.debug.new"
mv "$name.debug.new" "$name.debug"
objcopy --strip-all --add-gnu-debuglink="$name.debug" "$program" "$name.new"
mv "$name.new" "$name"
echo "$2/$name: $(($(stat -c %s "$name") / 1048576)) MiB; $2/$name.debug: $(($(stat -c %s "$name.debug") / 1048576)) MiB"
