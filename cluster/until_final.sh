#!/bin/sh
# Run a stage until its outcome is final.
#
#   until_final.sh TRIES PAUSE_SECONDS COMMAND ...
#
# 5 (the surroundings failed) and 137 (SIGKILL: memory, a node's power) are tried again, TRIES times
# in all. Any other code is final: a bug (1), wrong settings (2) or a failed gate (4) would fail
# again, and who was told to stop (130, 143) stops.
# 3 becomes 0; no stage ends with it yet: kept for "the candidate did not beat the champion".
set -u
tries=$1
pause=$2
shift 2

# The first process of a container ignores SIGTERM unless it asks for it, and so does a shell that
# waits in the foreground.
child=''
stopped=''
trap 'stopped=yes; kill -TERM "$child" 2>/dev/null' TERM

waited() {
  "$@" &
  child=$!
  wait "$child"
  code=$?
  [ -z "$stopped" ] && return "$code"
  wait "$child"
  exit $?
}

attempt=1
while true; do
  waited "$@"
  code=$?
  [ "$code" -eq 3 ] && exit 0
  [ "$code" -eq 5 ] || [ "$code" -eq 137 ] || exit "$code"
  [ "$attempt" -lt "$tries" ] || exit "$code"
  attempt=$((attempt + 1))
  echo "until_final.sh: exit $code, attempt $attempt of $tries in $pause s" >&2
  waited sleep "$pause"
done
