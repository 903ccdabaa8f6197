#!/usr/bin/env bash
# Builds traces with the flags of the method's released data-creation script: those of its example (-i, -o) and its own.
# docs/released-data.md says what each becomes, and what differs. With --dry-run it prints the command instead.
set -euo pipefail

fail() { echo "released_script.sh: $1" >&2; exit 2; }

input="" output="" attempts=5 dry="" drawn=""
formats=('*C_full')
options=()

while [[ $# -gt 0 ]]; do
  flag=$1
  shift
  case $flag in
    --force_unique_prompting_types) options+=(--unique-variants); continue ;;
    --sampling_response_counts) drawn=yes; continue ;;
    --dry-run) dry=yes; continue ;;
  esac
  values=()
  while [[ $# -gt 0 && $1 != -* ]]; do values+=("$1"); shift; done
  [[ ${#values[@]} -gt 0 ]] || fail "$flag: expected a value"
  value=${values[0]}
  case $flag in
    -i|--input-dataset|--input_reflection_dataset_name) input=$value ;;
    -o|--output-dataset|--output_dataset_name) output=$value ;;
    --formats) formats=("${values[@]}") ;;
    --num_responses_ignore_correctness) attempts=$value ;;
    --num_repeats_per_question) options+=(--repeats "$value") ;;
    --subsample_size) options+=(--limit "$value") ;;
    --prompt_variants_to_use) options+=(--variants "$(IFS=,; echo "${values[*]}")") ;;
    --response_column) options+=(--columns "response=$value") ;;
    --responses_correctness_column) options+=(--columns "correct=$value") ;;
    --reflection_column) options+=(--columns "reflection=$value") ;;
    --extracted_answer_column) echo "released_script.sh: $flag is not needed: answers are read from the responses" >&2 ;;
    *) fail "unknown flag $flag (docs/released-data.md lists them)" ;;
  esac
done
[[ -n $input ]] || fail "-i is missing: a folder, a file or a Hub id with raw data"
[[ -n $output ]] || fail "-o is missing: the directory to write"
[[ -e $input ]] || input=hub:$input

for format in "${formats[@]}"; do
  case $drawn/$format in  # there, the number of attempts is fixed unless it is asked to be drawn
    '/*C') format='*C = A* C -> answer; n=max' ;;
    '/*CC') format='*CC = A* C C -> confirm; n=max' ;;
    '/*C*IC') format='*C*IC = A* C A* I -> backtrack; n=max' ;;
  esac
  options+=(--layout "$format")
done

command=(skillfactory build "$input" --output "$output" --max-attempts "$attempts" "${options[@]}")
if [[ -n $dry ]]; then
  printf '%q ' "${command[@]}"
  echo
else
  exec "${command[@]}"
fi
