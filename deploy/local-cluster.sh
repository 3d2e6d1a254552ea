#!/usr/bin/env bash
# A cluster on one machine, to try things: N nodes (default 3) and a PostgreSQL of its own, each a process, on 127.0.0.1 only.
#
#   deploy/local-cluster.sh [N] [--folder DIR] [--port PORT] [--program DLL]    starts what does not run yet, prints addresses and where the tokens lie
#   deploy/local-cluster.sh stop [--folder DIR]                                 stops all of it; the data stays
#
# --folder   data, logs and process ids; default data/cluster
# --port     default 8080: node i has REST on PORT+i, MQTT on PORT+100+i and talks to the others on PORT+200+i; PostgreSQL has PORT+300
# --program  a published IoTDelivery.Host.dll; default: this checkout, published into the folder
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
action=start nodes=3 folder=data/cluster port=8080 program=""
while [ $# -gt 0 ]; do
  case "$1" in
    start | stop) action=$1 ;;
    --folder) folder=${2:?--folder needs a directory}; shift ;;
    --port) port=${2:?--port needs a number}; shift ;;
    --program) program=${2:?--program needs a file}; shift ;;
    [1-9]) nodes=$1 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift
done

fail() { echo "$1" >&2; exit 1; }

# A number in a file may belong to somebody else by now: ours works in the node's folder.
pid_of() { # the node's folder
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) && [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$1" ] && echo "$pid"
}

# PostgreSQL does not run as root.
as_server() {
  cd "$folder/postgres"
  if [ "$(id -u)" -eq 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else "$@"; fi
}

binaries=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$binaries" ] || fail "PostgreSQL's server binaries are not installed (apt-get install postgresql)."

if [ "$action" = stop ]; then
  [ -d "$folder" ] || fail "There is no cluster in $folder."
  folder=$(cd "$folder" && pwd)
  pids=()
  for node in "$folder"/node*; do
    pid=$(pid_of "$node") && kill -TERM "$pid" && pids+=("$pid") && echo "$(basename "$node") (pid $pid) is told to stop"
  done
  for pid in ${pids[@]+"${pids[@]}"}; do
    for _ in $(seq 400); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -0 "$pid" 2>/dev/null && echo "pid $pid did not stop within 40 s and is killed" && kill -KILL "$pid"
  done
  (as_server "$binaries/pg_ctl" -D data status >/dev/null 2>&1) && (as_server "$binaries/pg_ctl" -D data -m fast -w stop >/dev/null) && echo "PostgreSQL has stopped"
  exit 0
fi

command -v curl >/dev/null || fail "curl is not installed (apt-get install curl)."
mkdir -p "$folder/postgres"
folder=$(cd "$folder" && pwd)
if [ -z "$program" ]; then
  dotnet publish "$checkout/src/IoTDelivery.Host" -c Release -o "$folder/program" --nologo -v quiet
  program=$folder/program/IoTDelivery.Host.dll
fi
program=$(realpath "$program")

postgres_port=$((port + 300))
if ! (as_server "$binaries/pg_ctl" -D data status >/dev/null 2>&1); then
  [ "$(id -u)" -ne 0 ] || chown postgres "$folder/postgres"
  (as_server test -w .) || fail "The user postgres cannot write to $folder/postgres. Give --folder a directory it can reach, such as /var/tmp/cluster."
  [ -d "$folder/postgres/data" ] || (as_server "$binaries/initdb" -D data -U iotdelivery -A trust -E UTF8 --no-locale >/dev/null)
  (as_server "$binaries/pg_ctl" -D data -l log -w -o \
    "-c listen_addresses=127.0.0.1 -c port=$postgres_port -c unix_socket_directories='' -c max_connections=600" start >/dev/null) ||
    fail "PostgreSQL did not start: see $folder/postgres/log."
fi
database="Host=127.0.0.1;Port=$postgres_port;Username=iotdelivery;Database=postgres;Maximum Pool Size=50"

seeds=()
for i in $(seq "$nodes"); do seeds+=("--Cluster:SeedNodes:$((i - 1))=127.0.0.1:$((port + 200 + i))"); done
for i in $(seq "$nodes"); do
  node=$folder/node$i
  mkdir -p "$node"
  pid_of "$node" >/dev/null && continue
  (
    cd "$node"
    setsid nohup dotnet "$program" "--urls=http://127.0.0.1:$((port + i))" "--Mqtt:Port=$((port + 100 + i))" "--Cluster:Port=$((port + 200 + i))" "${seeds[@]}" \
      --Storage:Provider=PostgreSql "--Storage:ConnectionString=$database" >>log 2>&1 </dev/null &
    echo $! >pid
  )
done

for i in $(seq "$nodes"); do
  for _ in $(seq 600); do
    curl -s "http://127.0.0.1:$((port + i))/health/ready" | grep -q "Up, $nodes of $nodes members" && continue 2
    pid_of "$folder/node$i" >/dev/null || fail "node$i has ended: see $folder/node$i/log."
    sleep 0.2
  done
  fail "node$i does not see $nodes members: see $folder/node$i/log."
done

for i in $(seq "$nodes"); do
  echo "node$i  REST http://127.0.0.1:$((port + i))  MQTT 127.0.0.1:$((port + 100 + i))  pid $(cat "$folder/node$i/pid")  log $folder/node$i/log"
done
echo "PostgreSQL         127.0.0.1:$postgres_port, user iotdelivery, no password"
echo "application token  $folder/node1/data/api-token"
echo "admin token        $folder/node1/data/admin-token"
echo "members            dotnet $program cluster show --url http://127.0.0.1:$((port + 1)) --token-file $folder/node1/data/admin-token"
echo "stop               deploy/local-cluster.sh stop --folder $folder"
