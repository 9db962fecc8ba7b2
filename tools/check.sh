#!/bin/sh
# Every test. Builds four times: clang with warnings as errors and libFuzzer, gcc with sanitizers, gcc with ThreadSanitizer,
# and last the release build whose summary ends the output.
set -eu
cd "$(dirname "$0")/.."
jobs=$(nproc)
seconds=${QVL_FUZZ_SECONDS:-10}
started=$(date +%s)
say() { printf '\n== %s (%d s)\n' "$*" $(($(date +%s) - started)); }
build() { # DIR OPTIONS...
    dir=$1
    shift
    cmake -G Ninja -S . -B "$dir" "$@" >"$dir.log" 2>&1 || { cat "$dir.log"; exit 1; }
    ninja -C "$dir" -j "$jobs" >>"$dir.log" 2>&1 || { grep -E 'error|warning|FAILED' "$dir.log" | head -40; tail -20 "$dir.log"; exit 1; }
}
run_tests() { # DIR OPTIONS...
    dir=$1
    shift
    ctest --test-dir "$dir" --output-on-failure -j "$jobs" "$@"
}

say "clang, warnings are errors, fuzz targets"
build build-clang -DQVL_WERROR=ON -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=RelWithDebInfo -DQVL_LIBFUZZER=ON -DQVL_SANITIZE=address,undefined
say "fuzzing, $seconds s a target"
tools/fuzz.sh "$seconds" build-clang

say "gcc, address and undefined behaviour sanitizers"
build build-asan -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS=-O1 -DQVL_SANITIZE=address,undefined
run_tests build-asan

say "gcc, thread sanitizer"
build build-tsan -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS=-O1 -DQVL_SANITIZE=thread
run_tests build-tsan -R 'pool|threads|pull'

say "gcc, release, warnings are errors"
build build -DQVL_WERROR=ON -DCMAKE_BUILD_TYPE=Release
tools/check_source.sh build
run_tests build
