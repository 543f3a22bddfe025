exec 2>&1
umask=$(umask)
echo "== ids"
grep -E '^(Uid|Gid|Groups)' /proc/self/status
echo "umask $umask"
echo "== capabilities"
grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status
echo "== mounts"
cut -d' ' -f4- /proc/self/mountinfo
echo "== nodes"
for i in /dev/* /dev/pts/*; do stat -c '%n %F %a %u %g %t:%T' $i; done
echo "== devices"
try() {
    mknod /dev/probe $1 $2 $3 || return
    echo "$1 $2 $3: $( (: </dev/probe) 2>&1)"
    rm /dev/probe
}
if [ -c /dev/null ]; then
    (: </dev/null) && (: >/dev/null) && echo null
    for i in 'c 1 5' 'c 1 11' 'c 5 2' 'c 10 229' 'b 254 0' 'b 7 0'; do try $i; done
    try c 10 200
fi
echo "== limits"
cat /proc/self/limits
cat /proc/self/oom_score_adj
cd /sys/fs/cgroup
for i in memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_quota_us \
    cpu/cpu.cfs_period_us cpuset/cpuset.cpus cpuset/cpuset.mems pids/pids.max \
    blkio/blkio.throttle.read_bps_device blkio/blkio.throttle.write_iops_device; do
    [ -e $i ] && echo $i $(cat $i)
done
[ -e devices ] && sort devices/devices.list
cd "$OLDPWD"
echo "== environment"
env | grep -v ^OLDPWD= | sort
pwd
hostname
echo "== namespaces"
for i in /proc/self/ns/*; do echo "$i $(readlink $i)"; done
echo "== cgroups"
cat /proc/self/cgroup
echo "== settings"
cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_unprivileged_port_start
echo "== files"
cat /data/file /data/other/file /etc/secret
ls /proc/scsi /sys/firmware
touch /touched && echo written
touch /data/touched && echo written
touch /proc/sys/kernel/shmmax && echo opened
[ $$ = 1 ] && echo init
exit 7
