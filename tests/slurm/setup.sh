#!/usr/bin/env bash
# A SLURM of one node on this machine, for the tests marked `slurm`: munge, slurmctld and slurmd in a folder of
# their own, as root, without accounting and without control groups (which containers rarely delegate).
#
#   setup.sh start FOLDER    install what is missing (Debian), start; prints the SLURM_CONF to export
#   setup.sh stop FOLDER     stop what `start` started there
set -euo pipefail
action=${1:?start or stop} folder=$(realpath -m "${2:?a folder}")
host=$(hostname -s)
export SLURM_CONF=$folder/slurm.conf

stop() {
  for name in slurmd slurmctld munged; do
    [ -f "$folder/$name.pid" ] || continue
    pid=$(cat "$folder/$name.pid")
    kill "$pid" 2>/dev/null || true
    # They write their state as they end; a zombie, where nobody collects it, has ended.
    for _ in $(seq 100); do
      case $(ps -o stat= -p "$pid" || true) in "" | Z*) break ;; esac
      sleep 0.1
    done
  done
}

if [ "$action" = stop ]; then
  stop
  exit
fi

[ "$(id -u)" = 0 ] || { echo "setup.sh: needs root: slurmd starts jobs as their users" >&2; exit 3; }
if ! command -v slurmctld slurmd munged sbatch >/dev/null; then
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge; } >&2 ||
    { echo "setup.sh: slurm-wlm and munge could not be installed" >&2; exit 3; }
fi

mkdir -p "$folder"/{state,spool,munge}
chmod 755 "$folder"
# munge insists on a key and folders that are its own, and on no writable parent of the socket.
chown munge: "$folder/munge"
chmod 711 "$folder/munge"
[ -f "$folder/munge/key" ] || head -c 1024 /dev/urandom >"$folder/munge/key"
chown munge: "$folder/munge/key"
chmod 400 "$folder/munge/key"
setpriv --reuid munge --regid munge --clear-groups munged --force --key-file="$folder/munge/key" \
  --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" \
  --seed-file="$folder/munge/seed" >&2
cp "$folder/munge/pid" "$folder/munged.pid"

read -r controller node < <(python3 - <<'P'
import socket
free = [socket.socket() for _ in range(2)]
for s in free:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in free))
P
)
cat >"$SLURM_CONF" <<C
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
SlurmdPort=$node
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,sched_min_interval=0
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=2000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
C
# Later slurmds end where they find no control groups that they may use, whatever slurm.conf asks for. Those before
# 23.02 know no such plugin.
version=$(slurmd -V) version=${version##* }
[ "${version%%.*}" -lt 23 ] || echo CgroupPlugin=disabled >"$folder/cgroup.conf"
slurmctld >&2
slurmd >&2
for _ in $(seq 60); do
  if [ "$(sinfo -h -o %t 2>/dev/null)" = idle ]; then
    echo "$SLURM_CONF"
    exit
  fi
  sleep 0.5
done
echo "setup.sh: the node did not become idle in 30 s; see $folder/slurmctld.log and slurmd.log" >&2
stop
exit 1
