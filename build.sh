#!/usr/bin/env bash
# What CI runs. `./build.sh` installs what the tests need, builds, checks the format and runs every test.
#   ./build.sh e2e      the end-to-end tests at full size (100,000 sleeping devices)
#   ./build.sh bench    the table for docs/BENCHMARKS.md
#   ./build.sh sim 1000 simulated histories; --seed N tells one of them
set -euo pipefail
cd "$(dirname "$0")"
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

# The tests that need one of these say why they skip where it cannot be had.
install_what_tests_need() {
  local missing=()
  command -v mosquitto_sub >/dev/null || missing+=(mosquitto-clients)
  ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
  command -v curl >/dev/null || missing+=(curl)
  command -v openssl >/dev/null || missing+=(openssl)
  command -v ip >/dev/null || missing+=(iproute2)
  ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing+=(libfaketime)
  PATH=$PATH:/usr/sbin command -v haproxy >/dev/null || missing+=(haproxy)
  { command -v node && command -v npm; } >/dev/null || missing+=(nodejs npm)
  /usr/bin/python3 -c 'import proton' 2>/dev/null || missing+=(python3-qpid-proton)
  /usr/bin/python3 -c 'import paho.mqtt.client' 2>/dev/null || missing+=(python3-paho-mqtt)
  [ ${#missing[@]} -eq 0 ] && return
  local sudo=""
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || { echo "Not root: ${missing[*]} cannot be installed, the tests that need them skip."; return; }
    sudo=sudo
  fi
  command -v apt-get >/dev/null || { echo "No apt: ${missing[*]} cannot be installed, the tests that need them skip."; return; }
  # Only the server's binaries are wanted: each test run makes a cluster of its own.
  $sudo mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" | $sudo tee /etc/postgresql-common/createcluster.conf >/dev/null
  $sudo apt-get update -qq || true
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" ||
    echo "${missing[*]} could not be installed, the tests that need them skip."
}

build() {
  dotnet restore
  dotnet build --no-restore -c Release
}

# Hundreds of nodes are started by the tests. What an operator publishes for a machine starts in 60 % of the CPU; the
# tests start the same. Without the compiler's package (a registry may lack it) they start what was built.
compile_ahead() {
  local published host=src/IoTDelivery.Host/bin/Release/net10.0 folder file
  published=$(mktemp -d)
  if dotnet publish src/IoTDelivery.Host -c Release --use-current-runtime --self-contained false -o "$published"; then
    for folder in "$host" tests/IoTDelivery.EndToEnd/bin/Release/net10.0 tests/IoTDelivery.Faults/bin/Release/net10.0; do
      for file in "$folder"/*.dll; do
        [ ! -e "$published/${file##*/}" ] || cp "$published/${file##*/}" "$file"
      done
    done
  else
    echo "The host could not be compiled ahead: the tests' nodes start slower."
  fi
  rm -rf "$published"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0

run_tests() { # arguments: what to hand to dotnet test
  dotnet test --no-build -c Release "$@" 2>&1 | tee -a "$log" || failed=1
}

total() {
  # Again what failed and why, where nobody has to look for it.
  awk '/^  Failed / { on = 1; lines = 0 } /^  (Passed|Skipped) |^(Passed|Failed)! |^\[xUnit|^Test run/ { on = 0 } on && lines++ < 40' "$log"
  awk -F'[:,]' '/^(Passed|Failed)! +-/ { failed += $2; passed += $4; skipped += $6 }
    END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit passed == 0 }' "$log" || failed=1
  exit $failed
}

case "${1:-all}" in
  all)
    install_what_tests_need
    build
    # Style and analyzers are part of the build (EnforceCodeStyleInBuild, warnings are errors); what is left is white space.
    dotnet format whitespace --verify-no-changes --no-restore &
    format=$!
    compile_ahead
    wait $format || { echo "The format is not clean: run dotnet format."; exit 1; }
    run_tests -m:2 -p:WithoutEndToEnd=true
    run_tests tests/IoTDelivery.EndToEnd # alone: some of them measure
    total
    ;;
  e2e)
    install_what_tests_need
    build
    compile_ahead
    export IOTDELIVERY_E2E=full
    run_tests tests/IoTDelivery.EndToEnd
    total
    ;;
  bench)
    install_what_tests_need
    build
    shift
    dotnet run --no-build -c Release --project tests/IoTDelivery.Benchmarks -- delivery "$@"
    dotnet run --no-build -c Release --project tests/IoTDelivery.Benchmarks -- connect
    ;;
  sim)
    dotnet build -c Release tests/IoTDelivery.Simulation
    shift
    dotnet run --no-build -c Release --project tests/IoTDelivery.Simulation -- "$@"
    ;;
  *)
    echo "usage: ./build.sh [e2e | bench | sim]" >&2
    exit 2
    ;;
esac
