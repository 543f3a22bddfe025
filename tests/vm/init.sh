#!/bin/busybox sh
# The first process of a virtual machine: checks the real `agent` on its kernel. `cargo xtask vm` boots it.
#
# Prints `ok NAME` or `FAIL NAME: why` for each check and `done` when none is left; other lines are for people.
# LAYOUT, a word of the kernel's command line, says how cgroups are mounted: v2, or hybrid (memory and pids on v1).

/bin/busybox --install -s /bin
export PATH=/bin
# From the initial file system no process can change its root (pivot_root(2)), so that everything moves to another.
if [ ! -e /moved ]; then
    mkdir /new
    mount -t tmpfs -o mode=755 new /new
    for name in /*; do [ $name = /new ] || cp -a $name /new; done
    touch /new/moved
    exec switch_root /new /init
fi
if [ $$ = 1 ]; then
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mount -t devtmpfs dev /dev
    mount -t tmpfs tmp /tmp
    mount -t tmpfs run /run
    # The kernel's own messages would break lines in two.
    dmesg -n 1
    ifconfig lo up
    for module in /modules/*; do insmod $module; done
    # Orphans become this process's, and a container is there until its own are waited for: so this one only waits, and
    # a child of it does the checks.
    /init &
    wait
    poweroff -f
fi

METRICS=http://127.0.0.1:9464
LIMIT=20971520
# Seconds that a condition may take to come true, on an emulated machine.
PATIENCE=20

# --- cgroups: $MEMORY is the hierarchy with the memory controller, $HIERARCHIES are all.

mount_v2() {
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    MEMORY=/sys/fs/cgroup
    HIERARCHIES=$MEMORY
    echo "+cpu +io +memory +pids +cpuset" >$MEMORY/cgroup.subtree_control
}

mount_hybrid() {
    mount -t tmpfs cgroups /sys/fs/cgroup
    mkdir /sys/fs/cgroup/unified /sys/fs/cgroup/memory /sys/fs/cgroup/pids
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
    mount -t cgroup -o memory memory /sys/fs/cgroup/memory
    mount -t cgroup -o pids pids /sys/fs/cgroup/pids
    echo "+cpu +io +cpuset" >/sys/fs/cgroup/unified/cgroup.subtree_control
    MEMORY=/sys/fs/cgroup/memory
    HIERARCHIES="$MEMORY /sys/fs/cgroup/pids /sys/fs/cgroup/unified"
    # Without it 5.10 charges a cgroup's memory to no parent; systemd and runc set it too.
    echo 1 >$MEMORY/memory.use_hierarchy
}

# Makes /agent, in which the checks' own containers are. Those of `agent run` remove it with the last of them.
make_agent() {
    for hierarchy in $HIERARCHIES; do mkdir $hierarchy/agent; done
    [ $LAYOUT = hybrid ] || echo "+memory +pids +cpuset" >$MEMORY/agent/cgroup.subtree_control
}

# Makes the cgroup /agent/$1 in every hierarchy.
make() {
    for hierarchy in $HIERARCHIES; do mkdir $hierarchy/agent/$1; done
}

# Removes it, once its last process has left.
remove() {
    for hierarchy in $HIERARCHIES; do eventually rmdir $hierarchy/agent/$1 || return 1; done
}

# Runs a command in the cgroup /agent/$1.
inside() {
    cgroup=$1
    shift
    sh -c 'for hierarchy in $2; do echo $$ >$hierarchy/agent/$1/cgroup.procs || exit 1; done; shift 2; exec "$@"' \
        inside $cgroup "$HIERARCHIES" "$@"
}

# Limits the memory of /agent/$1 to $LIMIT.
limit_memory() {
    if [ $LAYOUT = v2 ]; then file=memory.max; else file=memory.limit_in_bytes; fi
    echo $LIMIT >$MEMORY/agent/$1/$file
}

# Makes /agent/$1 count the memory of the cgroups below it apart, as v1 always does.
delegate() {
    [ $LAYOUT = hybrid ] || echo +memory >$MEMORY/agent/$1/cgroup.subtree_control
}

# The kernel's own count of OOM kills in /agent/$1.
kernel_kills() {
    if [ $LAYOUT = v2 ]; then file=memory.events.local; else file=memory.oom_control; fi
    sed -n 's/^oom_kill //p' $MEMORY/agent/$1/$file
}

# Allocates until it is killed.
hog() { inside $1 tail /dev/zero; }

# --- what is wanted

# Runs the check of this name, in a shell of its own, and tells how it went; what it prints is the why.
check() {
    if why=$($1 2>&1); then echo "ok $1"; else echo "FAIL $1: $(echo "$why" | tr '\n' ' ')"; fi
}

# Waits until a command succeeds.
eventually() {
    deadline=$(($(seconds) + PATIENCE))
    until "$@"; do
        [ $(seconds) -lt $deadline ] || return 1
        sleep 0.1
    done
}

seconds() { cut -d. -f1 /proc/uptime; }

# The events that contain each of these texts.
events() {
    lines=$(cat /tmp/events)
    for text; do lines=$(echo "$lines" | grep -F -- "$text"); done
    echo "$lines" | grep .
}

# How many they are.
count() { events "$@" | grep -c .; }

event_count_is() {
    wanted=$1
    shift
    [ "$(count "$@")" = $wanted ]
}

# Wants $1 events that contain each of these texts, and no more.
want_events() {
    eventually event_count_is "$@" && return
    wanted=$1
    shift
    echo "want $wanted events with $*, have $(count "$@"):"
    events "$1" | tail -n 3
    return 1
}

# The value of the sample that begins with this text.
metric() { wget -q -O - $METRICS/metrics 2>/dev/null | awk -v sample="$1" 'index($0, sample) == 1 { print $NF }'; }

metric_is() { [ "$(metric "$1")" = "$2" ]; }

want_metric() {
    eventually metric_is "$1" "$2" || { echo "want $1 $2, have: $(metric "$1")"; return 1; }
}

# Wants the text that follows `"$2":` in the event $1 to begin with $3.
want_field() {
    case $1 in
    *"\"$2\":$3"*) ;;
    *) echo "want \"$2\":$3 in $1"; return 1 ;;
    esac
}

# --- checks

# Wants the doctor, asked with these options, to attach everything, and unshare, setns and oom by $UNSHARE, $SETNS, $OOM.
doctor_attaches() {
    agent doctor "$@" >/tmp/doctor || { cat /tmp/doctor; return 1; }
    for probe in cgroup_mkdir cgroup_rmdir cgroup_populated attach fork exec exit; do
        attached $probe btf
    done
    attached unshare $UNSHARE
    attached setns $SETNS
    attached oom $OOM
    [ -z "$failed" ]
}

attached() {
    grep -q "^$1  *$2  *attached$" /tmp/doctor || { echo "$1 is not attached by $2: $(grep -A 3 "^$1 " /tmp/doctor)"; failed=1; }
}

# Trampolines load on all of these kernels.
doctor() { UNSHARE=trampoline SETNS=trampoline OOM=trampoline; doctor_attaches; }

doctor_forced() {
    UNSHARE=syscall SETNS=trampoline OOM=trampoline
    doctor_attaches --mechanism unshare=syscall || return 1
    UNSHARE=syscall SETNS=syscall OOM=btf
    doctor_attaches --mechanism syscall --mechanism btf
}

ready() { eventually wget -q -O /dev/null $METRICS/readyz 2>/dev/null || { cat /tmp/serve.log; return 1; }; }

watching() { want_metric agent_watchers 1; }

unshare_net() {
    inside calls unshare -n true || return 1
    want_events 1 '"kind":"unshare"' '"requested":["net"]' "$CALLS" '"result":"0"' '"changed":{"net":{"from":4026531'
}

# Without a flag of its own the fork that follows is no event.
unshare_pid() {
    inside calls unshare -p -f true || return 1
    want_events 1 '"kind":"unshare"' '"requested":["pid"]' "$CALLS" '"result":"0"' '"changed":{"pid_for_children":{"from":4026531836,'
}

# Perl is the one interpreter with raw system calls on every Debian: clone(CLONE_NEWPID|CLONE_NEWNET|SIGCHLD).
clone() {
    inside calls perl -e '$pid = syscall(56, 0x60000011, 0, 0, 0, 0); exit 0 if $pid == 0; waitpid $pid, 0' || return 1
    want_events 1 '"kind":"clone"' '"requested":["net","pid"]' "$CALLS" '"result":"0"' '"net":{"from":4026531' '"pid":{"from":4026531836,' || return 1
    want_field "$(events '"kind":"clone"')" ns_pid 1,
}

# Enters the network namespace of a process that made its own.
setns() {
    rm -f /tmp/holder
    inside calls unshare -n sh -c 'echo $$ >/tmp/holder; exec sleep 1000' >/dev/null 2>&1 &
    eventually test -s /tmp/holder || return 1
    holder=$(cat /tmp/holder)
    net=$(readlink /proc/$holder/ns/net | tr -dc 0-9)
    inside calls nsenter -t $holder -n true
    kill $holder
    want_events 1 '"kind":"setns"' "$CALLS" '"result":"0"' "\"to\":$net"
}

failing_call() {
    inside calls perl -e '$< = $> = 1000; exec qw(unshare -n true)'
    want_events 1 '"kind":"unshare"' "$CALLS" '"result":"EPERM"' '"changed":{}'
}

# A system call as 32-bit programs make it, `int $0x80`: its number there, and two arguments.
call_of_32_bits() {
    inside calls perl -e '
        ($number, $ebx, $ecx) = map { oct } @ARGV;
        # push rbx; mov eax, number; mov ebx, ebx; mov ecx, ecx; int 0x80; pop rbx; ret
        $code = pack("CCVCVCVC*", 0x53, 0xb8, $number, 0xbb, $ebx, 0xb9, $ecx, 0xcd, 0x80, 0x5b, 0xc3);
        $at = unpack("Q", pack("p", $code));
        # mprotect(2), readable, writable and executable
        syscall(10, $at & ~4095, 8192, 7) == 0 or die "mprotect: $!";
        DynaLoader::boot_DynaLoader("DynaLoader");
        &{ DynaLoader::dl_install_xsub("main::call", $at) }();' "$@"
}

# unshare(CLONE_NEWUTS), and setns(-1, CLONE_NEWUTS), which fails. The system call tracepoints do not see them.
calls_of_32_bits_are_seen() {
    call_of_32_bits 0x136 0x04000000 0x0 || return 1
    call_of_32_bits 0x15a 0xffffffff 0x04000000 || return 1
    want_events 1 '"kind":"unshare"' '"requested":["uts"]' "$CALLS" '"result":"0"' '"changed":{"uts":{"from":4026531838,' &&
        want_events 1 '"kind":"setns"' '"requested":["uts"]' "$CALLS" '"result":"EBADF"' '"changed":{}'
}

oom() {
    want_events 1 '"kind":"oom"' || return 1
    event=$(events '"kind":"oom"')
    victim=${event#*\"victim\":}
    want_field "$event" constraint '"memcg"' &&
        want_field "$event" cgroup "\"/agent/oom\",\"limit_bytes\":$LIMIT," &&
        want_field "$victim" comm '"tail"' &&
        want_field "$victim" name '"oom"' &&
        want_field "$event" init_killed false &&
        swap "$event"
}

# The memory of node 1, of which there is half of the machine's, to processes that may use no other (MPOL_BIND).
oom_by_mempolicy() {
    inside calls perl -e '$nodes = pack("Q", 2); syscall(238, 2, $nodes, 64) == 0 or die "set_mempolicy: $!"; exec qw(tail /dev/zero)'
    want_events 1 '"kind":"oom"' '"constraint":"mempolicy"' '"limit_owner":null' "$CALLS"
}

oom_by_cpuset() {
    make bound && echo 1 >$MEMORY/agent/bound/cpuset.mems || return 1
    hog bound
    want_events 1 '"kind":"oom"' '"constraint":"cpuset"' '"limit_owner":null' '"name":"bound"'
}

# All of the machine's memory. Others are spared.
oom_of_the_host() {
    inside calls sh -c 'echo 1000 >/proc/self/oom_score_adj; exec tail /dev/zero'
    want_events 1 '"kind":"oom"' '"constraint":"none"' '"limit_owner":null' "$CALLS"
}

# v2 counts swap alone, of which there is none here; v1 counts memory and swap, as no less than memory.
swap() {
    want_field "$1" swap_limit_bytes null || return 1
    [ $LAYOUT = v2 ] && { want_field "$1" swap_usage_bytes 0; return; }
    usage=$(echo "$1" | sed 's/.*"usage_bytes":\([0-9]*\).*/\1/')
    with_swap=$(echo "$1" | sed 's/.*"swap_usage_bytes":\([0-9]*\).*/\1/')
    [ $with_swap -ge $usage ] || { echo "memory and swap $with_swap, memory $usage"; return 1; }
}

usage_near_limit() {
    event=$(events '"kind":"oom"' | head -n 1)
    usage=$(echo "$event" | sed 's/.*"usage_bytes":\([0-9]*\),"swap.*/\1/')
    [ $usage -le $LIMIT ] && [ $usage -ge $((LIMIT - 1048576)) ] || { echo "usage $usage, limit $LIMIT"; return 1; }
}

anon_near_limit() {
    event=$(events '"kind":"oom"' | head -n 1)
    anon=$(echo "$event" | sed 's/.*"anon_bytes":\([0-9]*\).*/\1/')
    [ $anon -le $LIMIT ] && [ $anon -ge $((LIMIT / 2)) ] || { echo "anon $anon, limit $LIMIT"; return 1; }
}

kills_are_the_kernels() {
    kills=$(kernel_kills oom/sub)
    [ "$kills" = 1 ] || { echo "the kernel counts $kills"; return 1; }
    want_metric 'container_oom_events_total{id="/agent/oom/sub"' "$kills" &&
        want_metric 'container_oom_kills_total{role="victim",id="/agent/oom/sub"' "$kills" &&
        want_metric 'container_oom_kills_total{role="limit_owner",id="/agent/oom"' 1
}

# A container of one process, in a mount namespace of its own as every engine's.
one_start_one_stop() {
    make life || return 1
    inside life unshare -m sh -c 'exit 3'
    remove life || return 1
    want_events 1 '"kind":"container"' '"name":"life"' '"action":"start"' &&
        want_events 1 '"kind":"container"' '"name":"life"' '"action":"stop"' &&
        want_field "$(events '"name":"life"' '"action":"stop"')" exit '{"code":3,"signal":0,'
}

# A container's process that enters namespaces of the host, where its child execs too; who comes from outside does not.
escapes_are_told_once() {
    make escape || return 1
    inside escape unshare -m -u sh -c 'nsenter -t 1 -m -u sh -c "ls >/dev/null; ls >/dev/null"; true'
    inside escape sh -c 'ls >/dev/null; true'
    remove escape || return 1
    want_events 1 '"kind":"escape"' '"namespace":"mnt"' '"how":"setns"' '"name":"escape"' &&
        want_events 1 '"kind":"escape"' '"namespace":"uts"' '"how":"setns"' '"name":"escape"' &&
        want_events 2 '"kind":"escape"'
}

# Where the kernel does not say which thread is the last, two that end together both seem to be.
threads_that_end_together_are_one_exit() {
    make threads && inside threads storm threads 300 8 >/dev/null || return 1
    exits() { wget -q -O - $METRICS/metrics | grep '^container_exits_total' | grep 'id="/agent/threads"' | awk '{ n += $NF } END { print n }'; }
    # The storm itself is one more.
    exits_are() { [ "$(exits)" = 301 ]; }
    eventually exits_are || { echo "301 processes ended $(exits) times"; return 1; }
}

counter_outlives_cgroup() {
    make gone || return 1
    limit_memory gone
    hog gone
    remove gone || return 1
    want_metric 'container_oom_events_total{id="/agent/gone"' 1
}

none_unknown() {
    unknown=$(events '"container_unknown":true')
    [ -z "$unknown" ] || { echo "$unknown"; return 1; }
}

none_lost() { want_events 0 '"kind":"lost"'; }

law() {
    wget -q -O - $METRICS/metrics | grep '^agent_events_total' >/tmp/law
    for kind in clone unshare setns oom cgroup_mkdir cgroup_rmdir cgroup_populated exec exit fork escape; do
        of_kind() { grep "kind=\"$kind\"" /tmp/law | grep "outcome=\"$1\"" | sed 's/.* //'; }
        submitted=$(of_kind submitted)
        others=$(($(of_kind no_room) + $(of_kind unwanted) + $(of_kind suppressed)))
        [ "$(of_kind seen)" = $((submitted + others)) ] || { echo "$kind: $(grep "\"$kind\"" /tmp/law)"; failed=1; }
        [ $submitted = $(($(of_kind decoded) + $(of_kind undecodable))) ] || { echo "$kind: $(grep "\"$kind\"" /tmp/law)"; failed=1; }
    done
    [ -z "$failed" ]
}

# --- the run

mount_$LAYOUT
echo "$(uname -r), cgroups $LAYOUT"
check doctor
cat /tmp/doctor

# Runs agent serve with these options, and a watcher whose events are in /tmp/events.
start() {
    agent serve "$@" >/tmp/serve.log 2>&1 &
    serve=$!
    check ready
    # Without it no other check says anything.
    kill -0 $serve || poweroff -f
    agent watch --output json >/tmp/events 2>/tmp/watch.log &
    check watching
}

stop() {
    kill $serve
    wait $serve
    status=$?
    check serve_ended
    cat /tmp/serve.log
}

serve_ended() { [ $status = 0 ] || { echo "exit status $status"; cat /tmp/serve.log; return 1; }; }

check doctor_forced

# Tests of `agent run`: those of limits whole, and what is left where one is killed.
limits_of_run() { AGENT_BINARY=/bin/agent run_limits --test-threads=1; }
leftovers_of_run() { AGENT_BINARY=/bin/agent run_life --test-threads=1 killed; }

# Tests of `agent verify`: all but those that need docker, or a disk. That of a quota wants a host that is idle: the ticks
# of an emulated CPU come late where it is busy, so that more is used than the quota gives.
verdicts() { AGENT_BINARY=/bin/agent verify --test-threads=1 --skip docker --skip the_suite_is; }

# Memory is held, and what does not fit is swapped out, where there is swap.
rest_goes_to_swap() {
    echo 256M >/sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0 || return 1
    agent verify --output json --memory 64M --memory-swap 512M -- \
        stress-ng --vm 1 --vm-bytes 128M --vm-keep --timeout 5s >/tmp/verdict
    swapoff /dev/zram0
    grep '"reason": "held at 64.0M.* went to swap"' /tmp/verdict || { cat /tmp/verdict; return 1; }
}

# Both who looks and who launches are told which file to change.
controller_is_not_enabled() {
    off=/sys/fs/cgroup/off
    mkdir $off $off/sub
    agent verify --cgroup /off/sub --expect memory=64M --output json >/tmp/verdict
    looked=$?
    sleep 1000 &
    echo $! >$off/cgroup.procs
    # A cgroup with processes cannot give controllers to others.
    agent verify --memory 64M --cgroup-parent /off -- true >/tmp/refused 2>&1
    launched=$?
    kill $!
    wait $!
    eventually rmdir $off/sub && eventually rmdir $off || return 1
    cat /tmp/verdict /tmp/refused
    [ $looked = 1 ] && grep -q "\"reason\": .*$off/cgroup.subtree_control" /tmp/verdict &&
        [ $launched = 2 ] && grep -q "$off/cgroup.subtree_control" /tmp/refused
}

# Mounts that it makes need what is newer.
case $(uname -r) in
5.*) echo "agent run is not checked on $(uname -r)" ;;
*)
    check limits_of_run
    check leftovers_of_run
    check verdicts
    check rest_goes_to_swap
    # v1 has no such file.
    [ $LAYOUT = hybrid ] || check controller_is_not_enabled
    ;;
esac

make_agent
make calls
CALLS='"container":{"kind":"container","id":"calls","name":"calls"'
start

check unshare_net
check unshare_pid
check clone
check setns
check failing_call
check calls_of_32_bits_are_seen

make oom
limit_memory oom
delegate oom
make oom/sub
hog oom/sub
check oom
check usage_near_limit
check anon_near_limit
check kills_are_the_kernels
check oom_by_mempolicy
check oom_of_the_host
# v1 has the cpuset controller in a hierarchy of its own, which is not mounted here.
[ $LAYOUT = hybrid ] || check oom_by_cpuset

check one_start_one_stop
check escapes_are_told_once
check threads_that_end_together_are_one_exit
check counter_outlives_cgroup
check none_unknown
check none_lost
check law
stop

echo "the same by the mechanisms that stand in for trampolines"
start --mechanism syscall --mechanism btf
check unshare_net
check unshare_pid
check setns
check failing_call
hog oom/sub
check oom
check none_lost
check law
stop

echo done
poweroff -f
