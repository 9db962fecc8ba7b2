#!/bin/sh
# The ARM kernels on a machine of another kind: compiles qcheck and kcheck with a cross compiler and runs them under qemu's user
# mode. usage: cross_arm.sh BUILD_DIR. Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user. Exits 77 when they are missing.
set -eu
cd "$(dirname "$0")/../.."
cc=${CROSS_CC:-aarch64-linux-gnu-gcc}
qemu=${CROSS_QEMU:-qemu-aarch64}
command -v "$cc" >/dev/null && command -v "$qemu" >/dev/null || { echo "cross_arm: no $cc or no $qemu"; exit 77; }
out=$1/cross_arm
mkdir -p "$out"
flags="-std=c11 -O2 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -Iinclude -Isrc -Itests -Wall -Wextra -Wpedantic -Wshadow -Wconversion
 -Wno-sign-conversion -Wvla -Wmissing-prototypes -Wundef -Werror -fno-math-errno -ffp-contract=off"

# Compiles files and says the names of their objects.
compile() {
    for file; do
        arch=
        case $file in
        *_neon_dotprod.c) arch=-march=armv8.2-a+dotprod ;;
        *_neon_i8mm.c) arch=-march=armv8.2-a+dotprod+i8mm ;;
        esac
        object=$out/$(basename "$file" .c).o
        $cc $flags $arch -c "$file" -o "$object"
        echo "$object"
    done
}

library=$(compile src/base/err.c src/base/mem.c src/base/pages.c src/base/dtype.c src/base/buf.c src/cpu/*.c src/kernels/*.c \
    src/kernels/ref/*.c src/kernels/arm/*.c)
$cc -static $(compile tests/kernels/quant/*.c) $library -lpthread -lm -o "$out/qcheck"
$cc -static $(compile tests/kernels/*.c) $library -lpthread -lm -o "$out/kcheck"
levels=$(sed -n 's/^foreach(level \(.*\))$/\1/p' tests/kernels/quant/CMakeLists.txt)
for level in ref $(printf '%s\n' $levels | grep neon); do
    "$qemu" -cpu max "$out/qcheck" --cpu "$level"
done
# Attention in f32 and bf16 is the scalar level's, which runs without an emulator elsewhere.
for level in $(printf '%s\n' $levels | grep neon); do
    "$qemu" -cpu max "$out/kcheck" --cpu "$level" --part int8
done
