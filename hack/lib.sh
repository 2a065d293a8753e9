# shellcheck shell=bash
# What the scripts under hack/ share: where things are kept, what must be installed, and how a slow step is shown.
#
# Guarantees: everything built or written goes below $weir_cache, never into the tree. Only progress and errors are
# printed, on standard error, so standard output stays free for answers such as a path.
# Assumes: bash 5 on Linux; the script that sources this file has said `set -euo pipefail`.

weir_hack="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
weir_cache="${WEIR_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}"

# The oldest Go that the modules under hack/ and the renderer build with: k8s.io/kubernetes v1.36 requires it.
weir_go_minimum=1.26

# A slow step says that it is still at work this often when nobody watches it on a terminal.
weir_progress_seconds=30

# How many lines of a failed step's log are shown: enough for a stack of Go build errors, little enough to read.
weir_log_tail_lines=25

if [[ -t 2 && -z "${NO_COLOR:-}" && "${TERM:-dumb}" != dumb ]]; then
  weir_bold=$'\e[1m' weir_red=$'\e[31m' weir_green=$'\e[32m' weir_dim=$'\e[2m' weir_plain=$'\e[0m'
else
  weir_bold='' weir_red='' weir_green='' weir_dim='' weir_plain=''
fi

# say TEXT…: one line of progress.
say() { printf '%s\n' "$*" >&2; }

# good TEXT…: something that was waited for has happened.
good() { printf '%s✓%s %s\n' "$weir_green" "$weir_plain" "$*" >&2; }

# die TEXT…: the reason, then the end of the script.
die() {
  printf '%s%serror:%s %s\n' "$weir_bold" "$weir_red" "$weir_plain" "$*" >&2
  exit 1
}

# need COMMAND REMEDY: the script cannot go on without COMMAND; REMEDY says what to install.
need() {
  command -v "$1" >/dev/null 2>&1 || die "\`$1\` is not installed or not on PATH: $2"
}

# need_go: Go is there and new enough.
need_go() {
  need go "install Go $weir_go_minimum or newer (https://go.dev/dl)"
  local found oldest
  found="$(GOTOOLCHAIN=local go env GOVERSION)" || die "\`go env\` does not run; reinstall Go $weir_go_minimum or newer"
  found="${found#go}"
  found="${found%% *}"
  oldest="$(printf '%s\n%s\n' "$weir_go_minimum" "$found" | sort -V | head -n 1)"
  [[ "$oldest" == "$weir_go_minimum" ]] || die "Go $found is too old: install Go $weir_go_minimum or newer (https://go.dev/dl)"
}

# seconds N: a duration for people.
seconds() {
  if (($1 < 60)); then printf '%ds' "$1"; else printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); fi
}

# show_log FILE: the end of a log, indented, for a failure message.
show_log() {
  [[ -s "$1" ]] || { say "  (the log $1 is empty)"; return 0; }
  tail -n "$weir_log_tail_lines" "$1" | cut -c 1-400 | sed "s/^/  ${weir_dim}│${weir_plain} /" >&2
}

# slow TEXT COMMAND…: runs COMMAND, whose output goes to a log, and shows TEXT with the time it has taken so far.
# When COMMAND fails the end of its log is shown and so is its exit code returned.
slow() {
  local text="$1" log started=$SECONDS last=$SECONDS status=0 pid
  shift
  log="$(mktemp "${TMPDIR:-/tmp}/weir-step.XXXXXX")"
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  # An interrupted script leaves no compiler behind.
  trap 'kill "$pid" 2>/dev/null || true; rm -f "$log"; exit 130' INT TERM
  [[ -t 2 ]] || say "$text…"
  while kill -0 "$pid" 2>/dev/null; do
    if [[ -t 2 ]]; then
      printf '\r\e[K%s… %s%s%s' "$text" "$weir_dim" "$(seconds $((SECONDS - started)))" "$weir_plain" >&2
    elif ((SECONDS - last >= weir_progress_seconds)); then
      last=$SECONDS
      say "  still at it after $(seconds $((SECONDS - started)))"
    fi
    sleep 0.25
  done
  wait "$pid" || status=$?
  trap - INT TERM
  [[ -t 2 ]] && printf '\r\e[K' >&2
  if ((status == 0)); then
    good "$text ($(seconds $((SECONDS - started))))"
  else
    say "${weir_red}failed:${weir_plain} $text"
    show_log "$log"
  fi
  rm -f "$log"
  return "$status"
}

# with_lock FILE TEXT COMMAND…: runs COMMAND while holding FILE's lock; TEXT is said only if another run holds it now.
# COMMAND must not leave a process behind that keeps descriptor 9 open.
with_lock() {
  local file="$1" text="$2"
  shift 2
  need flock "install util-linux"
  mkdir -p "$(dirname "$file")"
  (
    if ! flock -n 9; then
      say "$text"
      flock 9
    fi
    "$@"
  ) 9>"$file"
}

# shellcheck source=lib/tools.sh
source "$weir_hack/lib/tools.sh"
