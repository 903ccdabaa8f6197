#!/usr/bin/env bash
# The data side alone, twice: silver traces from raw data that others released, and from a model of one's own.
#   bash examples/demo-data.sh [FOLDER] [QUESTIONS]      default: demo 24
# It needs no network and no GPU, and takes about a minute. A second run goes on with the model's texts of the first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-demo}
questions=${2:-24}
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

run() {
  echo
  printf '$'
  printf ' %q' "$@"
  echo
  "$@"
}

echo "1. Traces from raw data in the released schemas (examples/raw, some rows broken on purpose)"
run skillfactory build examples/raw --output "$out/from-raw" --layout '*C_full' --overwrite
skillfactory audit "$out/from-raw" > "$out/from-raw-audit.txt"
echo "what is in them, and what errors: $out/from-raw-audit.txt"

echo
echo "2. Traces from a model: attempts, verdicts on them, and only as many as the layout needs"
run skillfactory curate --task countdown --level mini --option use_all=true --questions "$questions" \
  --model mini --variants-file brief --reflection-file brief --engine-option threads=1 \
  --mode lazy --layout '*C_full' --budget 32 --max-tokens 96 --output "$out/run"
run skillfactory build "$out/run" --output "$out/traces" --layout '*C_full' --phrases brief \
  --max-tokens 1024 --tokenizer mini --overwrite
run skillfactory audit "$out/traces" --show 1

echo
echo "3. The same traces for trainers"
run skillfactory export "$out/traces" --to trl --model mini --max-length 1024 --output "$out/trl"
run skillfactory export "$out/traces" --to chat --output "$out/chat"

cat <<END

Where things are:
  $out/from-raw  traces from raw data     $out/run     the model's attempts and reflections
  $out/traces    traces from the model    $out/trl, $out/chat   the same for trainers
Every folder has a README.md that says what its tables hold.
END
