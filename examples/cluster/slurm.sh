#!/bin/bash
# A command of skillfactory on all nodes of a SLURM job:
#
#     sbatch examples/cluster/slurm.sh curate --task countdown --engine vllm --model MODEL --output /shared/run
#
# skillfactory[ray] must be installed, and the output stand, where every node sees them (or the output at a URL). The same line
# goes on after any end; a job that runs out of time or is preempted goes on by itself.
#SBATCH --job-name=skillfactory
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120

set -euo pipefail
head=${HEAD_ADDRESS:-$(hostname --ip-address | awk '{ print $NF }')}  # of this node, the first; as the others reach it
export RAY_AT="$head:$((20000 + SLURM_JOB_ID % 10000))"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN  # who reaches the port and has no token can't run code here
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1

srun bash -c '
    node="--num-cpus=$SLURM_CPUS_ON_NODE --disable-usage-stats --block"
    if [ "$SLURM_PROCID" = 0 ]; then
        exec ray start --head --node-ip-address="${RAY_AT%:*}" --port="${RAY_AT##*:}" --temp-dir="/tmp/ray-$SLURM_JOB_ID" \
            --include-dashboard=false $node
    fi
    until ray status --address="$RAY_AT" &>/dev/null; do sleep 2; done
    exec ray start --address="$RAY_AT" $node' &

for _ in {1..150}; do  # five minutes; then with the nodes that have come
    joined=$(ray status --address="$RAY_AT" 2>/dev/null | grep -c " node_" || true)
    if [ "$joined" = "$SLURM_NNODES" ]; then break; fi
    sleep 2
done
skillfactory "$@" --on "ray:$RAY_AT" &
wait $!
