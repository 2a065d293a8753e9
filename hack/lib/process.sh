# shellcheck shell=bash
# Processes that outlive the script that starts them, known by a pid file and never by name. Sourced by hack/cluster.
#
# Guarantees: a pid file is believed only while that process's arguments name this cluster's folder, so a number that
# the system gave to somebody else is never signalled.
# Assumes: Linux's /proc; $state is the cluster's folder and every component has a path below it among its arguments.

# How long a component gets to end by itself before it is killed. Alone, each needs one to three seconds to hang up
# on the others; what a longer wait would save lies in folders that are deleted in the next step.
stop_seconds=2

# How often a condition is looked at again while it is waited for.
poll_seconds=0.05

# Ports are taken from below the range from which Linux gives out ports for outgoing connections (32768 and up).
port_first=20000
port_count=12000

# start NAME COMMAND…: runs COMMAND in a session of its own, its output in logs/NAME.log, its pid in pids/NAME.
start() {
  local name="$1"
  shift
  printf '%s\n' "---- $(date -u +%FT%TZ) start" >>"$state/logs/$name.log"
  # shellcheck disable=SC2016 # Expanded by the inner shell, which becomes the component and so has its pid.
  setsid -f bash -c 'echo $$ >"$1.new" && mv "$1.new" "$1" && shift && exec "$@"' start "$state/pids/$name" "$@" \
    >>"$state/logs/$name.log" 2>&1 </dev/null 9>&-
  # setsid may return before the shell has written its number.
  wait_for 5 test -s "$state/pids/$name" || failed "$name"
}

# alive NAME: the process of NAME runs.
alive() {
  local pid
  pid="$(cat "$state/pids/$1" 2>/dev/null)" && [[ -n "$pid" ]] && is_ours "$pid"
}

# is_ours PID: a living process of this cluster. A zombie has no arguments and a stranger has others.
is_ours() {
  local words
  mapfile -d '' -t words 2>/dev/null <"/proc/$1/cmdline" || return 1
  [[ "${words[*]}" == *"$state/"* ]]
}

# stop NAME…: ends components, all at once: TERM, and KILL for those that are still there after $stop_seconds.
stop() {
  local name
  for name in "$@"; do
    if alive "$name"; then kill -TERM "$(cat "$state/pids/$name")" 2>/dev/null || true; fi
  done
  if ! wait_for "$stop_seconds" all_ended "$@"; then
    for name in "$@"; do
      if alive "$name"; then kill -KILL "$(cat "$state/pids/$name")" 2>/dev/null || true; fi
    done
    wait_for "$stop_seconds" all_ended "$@" || die "processes of $state cannot be stopped; see: ps -fp $(cat "$state"/pids/* | paste -sd,)"
  fi
  for name in "$@"; do rm -f "$state/pids/$name"; done
}

all_ended() {
  local name
  for name in "$@"; do
    if alive "$name"; then return 1; fi
  done
}

# wait_for SECONDS COMMAND…: true as soon as COMMAND is; false after SECONDS.
wait_for() {
  local deadline=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
  shift
  until "$@" >/dev/null 2>&1; do
    ((${EPOCHREALTIME/[.,]/} < deadline)) || return 1
    sleep "$poll_seconds"
  done
}

# free_port: prints a port on which nobody listens and which no other cluster is about to use. The reservation is a
# file that `release_ports` removes once the components listen; one left by a crash is forgotten after ten minutes.
free_port() {
  local port tries
  mkdir -p "$weir_cache/ports"
  find "$weir_cache/ports" -type f -mmin +10 -delete 2>/dev/null || true
  for ((tries = 0; tries < 100; tries++)); do
    port=$((port_first + RANDOM % port_count))
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue; fi
    if (set -o noclobber && printf '%s\n' "$state" >"$weir_cache/ports/$port") 2>/dev/null; then
      printf '%s\n' "$port"
      return
    fi
  done
  die "no free port found on 127.0.0.1 between $port_first and $((port_first + port_count))"
}

release_ports() {
  local port
  for port in "$@"; do rm -f "$weir_cache/ports/$port"; done
}
