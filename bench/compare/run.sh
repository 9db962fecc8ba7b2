#!/bin/sh
# qvl beside llama.cpp: sets everything up under build-compare/ (llama.cpp is compiled for this CPU), makes a random model of the 4B
# shape, and measures. Needs Python 3 with venv, a C++ compiler, 12 GB of disk, 16 GB of memory and an otherwise idle machine.
#   run.sh [OPTIONS OF compare.py]         with --only onnx (or text,vision,own,onnx) also onnxruntime-genai
set -eu
cd "$(dirname "$0")/../.."
here=bench/compare
work=build-compare
mkdir -p "$work"
[ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
python=$work/venv/bin/python
"$python" -c 'import llama_cpp, gguf' 2>/dev/null ||
    CMAKE_ARGS="-DGGML_NATIVE=ON" "$work/venv/bin/pip" install --no-binary llama-cpp-python -r "$here/requirements.txt"
"$python" "$here/make_model.py" "$work/models"
case "$*" in *onnx*)
    "$python" -c 'import onnxruntime_genai, onnx, torch, transformers' 2>/dev/null || "$work/venv/bin/pip" install -r "$here/requirements-onnx.txt"
    [ -d "$work/models/onnx-9" ] || "$python" "$here/make_onnx.py" "$work/models/onnx-9" --layers 9
    "$python" "$here/make_model.py" "$work/models" --layers 9 ;;
esac
XDG_CACHE_HOME=$PWD/$work/cache exec "$python" "$here/compare.py" "$work/models" "$@"
