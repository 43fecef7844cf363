#!/usr/bin/env bash
# Measure time and memory on one GPU at Stable Diffusion 1.5's true size, with random weights in bfloat16:
#
#   benchmarks/gpu.sh SECONDS [OUT] [OPTIONS]
#
# SECONDS is the time limit; all parts take about 4 minutes on one H100, so 240 is a good value. Parts that no longer
# fit are skipped, and the JSON says so. OUT is the JSON (default: full_size_gpu.json). OPTIONS go to full_size.py, such
# as --tiny --device cpu --dtype fp32. The variable PYTHON names the interpreter (default: python3).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case ${1:-} in
  '' | *[!0-9]*) echo "usage: benchmarks/gpu.sh SECONDS [OUT] [OPTIONS], such as: benchmarks/gpu.sh 240" >&2; exit 2 ;;
esac
limit=$1
out=${2:-full_size_gpu.json}
shift $(($# > 1 ? 2 : 1))
export PYTHONPATH="$here/../src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
parts=memory,run,elide,search,published,step,runs,short_run,images,closed_forms,xl,load,many_concepts
exec timeout -k 3 "$limit" "${PYTHON:-python3}" "$here/perf/full_size.py" --device cuda --dtype bf16 \
  --guided-steps 3 --rounds 2 --only "$parts" --until "$(($(date +%s) + limit - 8))" --out "$out" "$@"
