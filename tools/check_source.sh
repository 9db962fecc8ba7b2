#!/bin/sh
# House rules that a compiler does not check. usage: check_source.sh BUILD_DIR
set -eu
cd "$(dirname "$0")/.."
build=$1
bad=0
fail() { echo "check_source: $*"; bad=1; }

# Layers: a file includes its own layer or a lower one.
order="base cpu kernels formats hub model image text vision decoder sample engine"
rank() { n=0; for l in $order; do n=$((n + 1)); [ "$l" = "$1" ] && { echo $n; return; }; done; echo 0; }
for l in $order; do
    mine=$(rank "$l")
    for file in $(find "src/$l" -name '*.[ch]'); do
        for inc in $(sed -n 's/^#include "\([a-z0-9]*\)\/.*"/\1/p' "$file" | sort -u); do
            other=$(rank "$inc")
            [ "$other" -ge 1 ] || { fail "$file includes unknown layer $inc"; continue; }
            [ "$other" -le "$mine" ] || fail "$file includes $inc, a higher layer"
        done
    done
done
grep -nE '^#include "(base|cpu|kernels|formats|hub|model|image|text|vision|decoder|sample|engine)/' cli/*.c cli/*.h examples/*.c 2>/dev/null &&
    fail "front ends include only qvl.h"

# Functions that do not belong in a library, or nowhere.
grep -nwE '(strcpy|strcat|sprintf|vsprintf|gets|strtok|alloca) *\(' src cli -r --include='*.[ch]' && fail "banned function"
grep -nwE '(printf|puts|putchar|perror|fprintf|exit|abort|_exit) *\(' src -r --include='*.[ch]' && fail "the library prints or exits"
grep -rnE '#if.*__AVX' src --include='*.[ch]' | grep -v '^src/kernels/' && fail "instruction sets belong in src/kernels"

# Sizes.
for file in $(find src cli -name '*.c' -o -name '*.h' | grep -v -e tables -e generated); do
    lines=$(wc -l <"$file")
    [ "$lines" -le 1200 ] || fail "$file has $lines lines: is there a missing file or name?"
done

# Names: one meaning each; every header compiles alone.
find src cli include -name '*.[ch]' -printf '%f\n' | grep -v -e '^internal.h$' | sort | uniq -d | grep . && fail "file names are not unique"
for h in $(find src include -name '*.h' | grep -v -e /x86/ -e /arm/); do
    grep -q 'The file that includes it defines' "$h" && continue # a template
    cc -std=c11 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -Iinclude -Isrc -fsyntax-only -Wno-pragma-once-outside-header -x c "$h" 2>/dev/null ||
        fail "$h does not compile alone"
done

# Symbols: the static library defines only qvl_..., the shared one exports only what qvl.h declares.
nm -g --defined-only "$build/libqvl.a" 2>/dev/null | awk 'NF == 3 && $3 !~ /^qvl_/ {print "  " $3; n++} END {exit n > 0}' ||
    fail "global symbols without the prefix"
nm -D --defined-only "$build/libqvl.so" | awk 'NF == 3 {print $3}' | sort -u >"$build/exported.txt"
grep -oE '^QVL_API [^(]*\(' include/qvl.h | sed 's/($//; s/.*[ *]//' | sort -u >"$build/declared.txt"
diff "$build/declared.txt" "$build/exported.txt" || fail "libqvl.so does not export exactly what qvl.h declares (< declared, > exported)"

[ "$bad" = 0 ] && echo "check_source: fine"
exit $bad
