#!/bin/sh
# Runs every fuzz target for a number of seconds. usage: fuzz.sh SECONDS [BUILD_DIR of a libFuzzer build]
# New inputs stay in BUILD_DIR/fuzz; the committed corpus is only read.
set -eu
cd "$(dirname "$0")/.."
seconds=$1
dir=${2:-build-clang}
if [ $# -lt 2 ]; then
    cmake -G Ninja -S . -B "$dir" -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=RelWithDebInfo -DQVL_LIBFUZZER=ON \
        -DQVL_SANITIZE=address,undefined >/dev/null
    ninja -C "$dir"
fi
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    mkdir -p "$dir/fuzz/$name"
    printf '%s: ' "$name"
    if ! "$dir/tests/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$dir/fuzz/$name-" "$dir/fuzz/$name" "tests/fuzz/corpus/$name" >"$dir/fuzz/$name.log" 2>&1; then
        tail -50 "$dir/fuzz/$name.log"
        exit 1
    fi
    grep -h 'number_of_executed_units' "$dir/fuzz/$name.log" | awk '{print $2, "inputs"}'
done
