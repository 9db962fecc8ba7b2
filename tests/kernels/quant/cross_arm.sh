#!/bin/sh
# The ARM kernels on a machine of another kind: compiles qcheck with a cross compiler and runs it under qemu's user mode.
# usage: cross_arm.sh BUILD_DIR. Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user. Exits 77 when they are missing.
set -eu
cd "$(dirname "$0")/../../.."
cc=${CROSS_CC:-aarch64-linux-gnu-gcc}
qemu=${CROSS_QEMU:-qemu-aarch64}
command -v "$cc" >/dev/null && command -v "$qemu" >/dev/null || { echo "cross_arm: no $cc or no $qemu"; exit 77; }
out=$1/cross_arm
mkdir -p "$out"
flags="-std=c11 -O2 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -Iinclude -Isrc -Itests -Wall -Wextra -Wpedantic -Wshadow -Wconversion
 -Wno-sign-conversion -Wvla -Wmissing-prototypes -Wundef -Werror -fno-math-errno -ffp-contract=off"
objects=
for file in src/base/err.c src/base/mem.c src/base/pages.c src/base/dtype.c src/base/buf.c src/cpu/*.c src/kernels/*.c src/kernels/ref/*.c \
    src/kernels/arm/*.c tests/kernels/quant/*.c; do
    arch=
    case $file in *_neon_dotprod.c) arch=-march=armv8.2-a+dotprod ;; esac
    object=$out/$(basename "$file" .c).o
    $cc $flags $arch -c "$file" -o "$object"
    objects="$objects $object"
done
$cc -static $objects -lpthread -lm -o "$out/qcheck"
for level in ref neon_dotprod; do
    "$qemu" -cpu max "$out/qcheck" --cpu "$level"
done
