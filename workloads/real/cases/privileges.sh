#!/bin/sh
# SPDX-License-Identifier: MIT
# Tools that change user, capabilities, namespaces and limits of a process that must have one thread for it.
# needs: /usr/bin/setpriv (util-linux)
# volatile: threads tells how many threads there are, for whoever diagnoses a failure
# stderr: ignore some lines name a process id
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

# try NAME COMMAND...: what it prints and how it ends; a machine that forbids it forbids it both times.
try() {
    name=$1
    shift
    status=0
    under "$@" >out 2>err || status=$?
    echo "$name: status $status: $(cat out)"
}
rm -f out err

if [ "$(id -u)" -eq 0 ]; then
    # With --reuid, setpriv keeps its capabilities until it has changed the groups too: of the calling thread only.
    try 'user, then group' setpriv --reuid nobody --regid nogroup --clear-groups id -u
    try 'bounding set' setpriv --bounding-set -all id -u
    try 'inheritable' setpriv --inh-caps +net_raw --ambient-caps +net_raw true
    try 'runuser' runuser -u nobody -- id -u
    try 'su' su -s /bin/sh -c 'id -u' nobody
    try 'chroot' chroot --userspec=nobody:nogroup / id -u
    try 'new mount namespace' unshare --mount true
    try 'new process namespace' unshare --pid --fork --mount-proc sh -c 'echo $$'
    try 'new network' unshare --net true
    try 'enter' nsenter --target $$ --mount --uts true
fi
# The kernel refuses a new user namespace to a process with more than one thread.
try 'new user namespace' unshare --user --map-root-user id -u
try 'user and process namespace' unshare --user --map-root-user --pid --fork sh -c 'echo $$'
try 'no new privileges' setpriv --no-new-privs true
try 'few processes' prlimit --nproc=1:1 true
try 'small address space' prlimit --as=300000000 "$PYTHON" -c 'print(len(b"x" * 20_000_000))'
try 'no locked memory' prlimit --memlock=0 true
try 'few files' prlimit --nofile=8 true
try 'small stack' prlimit --stack=262144 true
cpu=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//') # of those that this process may use
try 'one processor' taskset -c "$cpu" nproc
try 'nice' nice -n 5 nice
try 'batch' chrt --batch 0 true
try 'session' setsid --wait true
try 'timeout' timeout 0.2 sleep 5
try 'lock' flock lock true
try 'unbuffered' stdbuf -o0 echo text
try 'own arch' setarch -R true
rm -f out err

# The same calls from a program that has used large blocks before. It has one thread, and so one task.
under "$PYTHON" "$SUITE_PROGRAMS/one_thread.py"
