#!/bin/sh
# Installs the Debian packages that building and testing need and that are not there yet.
set -eu
packages="gcc clang libclang-rt-14-dev make cmake ninja-build pkg-config xz-utils
 libjpeg62-turbo-dev libpng-dev libwebp-dev libheif-dev libavformat-dev libavcodec-dev libavutil-dev libswscale-dev
 libjansson-dev libcurl4-openssl-dev libedit-dev libcmocka-dev"
command -v dpkg-query >/dev/null || { echo "deps: not a Debian system; needed are: $packages"; exit 0; }
missing=
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
echo "deps: installing$missing"
sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "deps: please install as root:$missing" >&2; exit 1; }
    sudo=sudo
fi
$sudo apt-get update -q
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
