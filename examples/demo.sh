#!/usr/bin/env bash
# The whole loop on two CPU cores: a base model attempts and reviews, learns from its own rearranged attempts, is reinforced,
# and is compared with the same base reinforced alone.
#   bash examples/demo.sh [FOLDER] [RECIPE]      default: runs/demo recipes/mini/demo.yaml
# It needs no network and no GPU. After a stop or a kill it goes on where it was; a second run has nothing to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-runs/demo}
recipe=${2:-recipes/mini/demo.yaml}
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

command=(skillfactory run "$recipe" --output "$folder")
printf '$'
printf ' %q' "${command[@]}"
printf '\n\n'
"${command[@]}"

cat <<END

Where things are:
  $folder/table.md      the comparison above; costs.md: what each stage cost
  $folder/report.html   the same with curves and coloured responses, to be opened in a browser
  $folder/study.json    all its numbers
  $folder/stages        attempts, traces, models, evaluations
The recipe is $recipe; docs/studies.md tells how to write one of your own.
END
