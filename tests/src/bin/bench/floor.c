// A launch by hand, in one program that reads nothing back, keeps no state, and knows where everything is:
//
//   floor whole NAME ROOT FILTER COMMAND...  the same container as `agent run`'s: namespaces, cgroups in all hierarchies, which
//                                            it sees, limits, mounts, nodes, hidden and read-only paths, a loopback interface,
//                                            docker's capabilities, a system call filter; its first process makes network and
//                                            mounts while the launcher makes cgroups, and joins them by itself; its output
//                                            comes through pipes
//   floor least NAME ROOT FILTER COMMAND...  of this, what gives it namespaces, limits in three hierarchies, and a root; one
//                                            thing after the other
//   floor filter PID FILTER                  the system call filter of a process, into the file FILTER

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(long result, const char *step)
{
	if (result < 0) {
		perror(step);
		_exit(125);
	}
}

// Those of the limits come first.
static const struct {
	const char *name, *options;
} HIERARCHIES[] = {
	{ "memory", "memory" }, { "cpu", "cpu" }, { "pids", "pids" },
	{ "cpuset", "cpuset" }, { "cpuacct", "cpuacct" }, { "blkio", "blkio" }, { "devices", "devices" },
	{ "freezer", "freezer" }, { "systemd", "none,name=systemd" },
};

static const size_t ALL = sizeof HIERARCHIES / sizeof *HIERARCHIES;

static const char *const MASKED[] = {
	"/proc/acpi", "/proc/interrupts", "/proc/keys", "/proc/timer_list", "/sys/firmware",
};

static const char *const READ_ONLY[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys" };

static const struct {
	const char *path, *value;
} LIMITS[] = {
	{ "memory/agent/%s/memory.limit_in_bytes", "67108864" },
	{ "memory/agent/%s/memory.memsw.limit_in_bytes", "134217728" },
	{ "cpu/agent/%s/cpu.cfs_quota_us", "100000" },
	{ "pids/agent/%s/pids.max", "100" },
};

// Docker's.
static const char *const DEVICES[] = {
	"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm",
	"c 5:2 rwm", "c 136:* rwm",
};

static const struct {
	const char *path, *to;
} LINKS[] = {
	{ "/dev/fd", "/proc/self/fd" }, { "/dev/stdin", "/proc/self/fd/0" }, { "/dev/stdout", "/proc/self/fd/1" },
	{ "/dev/stderr", "/proc/self/fd/2" }, { "/dev/ptmx", "pts/ptmx" },
};

static const struct {
	const char *name;
	int major, minor;
} NODES[] = {
	{ "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 },
};

// Docker's: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod,
// audit_write, setfcap.
static const uint32_t CAPABILITIES = 0xa80425fb;

static struct sock_filter FILTER[BPF_MAXINSNS];

static void put(const char *format, const char *name, const char *value)
{
	char path[256];
	snprintf(path, sizeof path, format, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	check(fd, path);
	check(write(fd, value, strlen(value)), path);
	close(fd);
}

// A cpuset of v1 is born empty, and takes no process before it has what the one above it has.
static void give(const char *from, const char *to, const char *name)
{
	char value[64];
	int fd = open(from, O_RDONLY | O_CLOEXEC);
	check(fd, from);
	ssize_t length = read(fd, value, sizeof value - 1);
	check(length - 2, from);
	close(fd);
	value[length] = 0;
	put(to, name, value);
}

static void cgroups(const char *name, size_t count)
{
	char path[256];
	for (size_t i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/agent", HIERARCHIES[i].name);
		mkdir(path, 0755);
		snprintf(path, sizeof path, "%s/agent/%s", HIERARCHIES[i].name, name);
		check(mkdir(path, 0755), path);
	}
	if (count == ALL) {
		put("devices/agent/%s/devices.deny", name, "a");
		for (size_t i = 0; i < sizeof DEVICES / sizeof *DEVICES; i++)
			put("devices/agent/%s/devices.allow", name, DEVICES[i]);
		give("cpuset/cpuset.cpus", "cpuset/agent/cpuset.cpus", "");
		give("cpuset/cpuset.mems", "cpuset/agent/cpuset.mems", "");
		give("cpuset/cpuset.cpus", "cpuset/agent/%s/cpuset.cpus", name);
		give("cpuset/cpuset.mems", "cpuset/agent/%s/cpuset.mems", name);
	}
	for (size_t i = 0; i < sizeof LIMITS / sizeof *LIMITS; i++)
		put(LIMITS[i].path, name, LIMITS[i].value);
}

static void loopback(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	check(fd, "socket");
	check(ioctl(fd, SIOCSIFFLAGS, &request), "lo");
	close(fd);
}

static void mounts(const char *root)
{
	check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
	check(mount(root, root, NULL, MS_BIND | MS_REC, NULL), "root");
	check(chdir(root), "root");
	check(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "proc");
	check(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k"), "dev");
	check(mkdir("dev/pts", 0755), "dev/pts");
	check(mkdir("dev/shm", 01777), "dev/shm");
	check(mkdir("dev/mqueue", 01777), "dev/mqueue");
	check(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"), "pts");
	check(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k"), "shm");
	check(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mqueue");
	check(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL), "sys");
	for (size_t i = 0; i < sizeof NODES / sizeof *NODES; i++) {
		char path[32];
		snprintf(path, sizeof path, "dev/%s", NODES[i].name);
		check(mknod(path, S_IFCHR | 0666, makedev(NODES[i].major, NODES[i].minor)), path);
	}
	check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	check(umount2(".", MNT_DETACH), "old root");
	check(chdir("/"), "/");
}

static void hide(void)
{
	for (size_t i = 0; i < sizeof LINKS / sizeof *LINKS; i++)
		check(symlink(LINKS[i].to, LINKS[i].path), LINKS[i].path);
	for (size_t i = 0; i < sizeof MASKED / sizeof *MASKED; i++) {
		struct stat found;
		check(stat(MASKED[i], &found), MASKED[i]);
		if (S_ISDIR(found.st_mode))
			check(mount("tmpfs", MASKED[i], "tmpfs", MS_RDONLY, NULL), MASKED[i]);
		else
			check(mount("/dev/null", MASKED[i], NULL, MS_BIND, NULL), MASKED[i]);
	}
	for (size_t i = 0; i < sizeof READ_ONLY / sizeof *READ_ONLY; i++) {
		const unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
		check(mount(READ_ONLY[i], READ_ONLY[i], NULL, MS_BIND | MS_REC, NULL), READ_ONLY[i]);
		check(mount(NULL, READ_ONLY[i], NULL, flags, NULL), READ_ONLY[i]);
	}
}

static void hierarchies(size_t count)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	check(mount("tmpfs", "/sys/fs/cgroup", "tmpfs", flags, "mode=755"), "cgroup");
	check(chdir("/sys/fs/cgroup"), "cgroup");
	for (size_t i = 0; i < count; i++) {
		const char *name = HIERARCHIES[i].name;
		check(mkdir(name, 0755), name);
		check(mount("cgroup", name, "cgroup", flags | MS_RDONLY, HIERARCHIES[i].options), name);
	}
	check(mount(NULL, "/sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL), "cgroup");
	check(chdir("/"), "/");
}

static struct sock_fprog filter(const char *file)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	check(fd, file);
	ssize_t length = read(fd, FILTER, sizeof FILTER);
	check(length - 1, file);
	close(fd);
	return (struct sock_fprog){ .len = length / sizeof *FILTER, .filter = FILTER };
}

static void give_up(const struct sock_fprog *program)
{
	for (int capability = 0; capability < 32; capability++)
		if (!(CAPABILITIES >> capability & 1))
			check(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "bounding set");
	for (int capability = 32; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
		check(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "bounding set");
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[2] = { { .effective = CAPABILITIES, .permitted = CAPABILITIES } };
	check(syscall(SYS_capset, &header, sets), "capabilities");
	check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program), "filter");
}

static int save_filter(pid_t process, const char *file)
{
	int status;
	check(ptrace(PTRACE_SEIZE, process, 0, 0), "process");
	check(ptrace(PTRACE_INTERRUPT, process, 0, 0), "process");
	check(waitpid(process, &status, __WALL), "process");
	long length = ptrace(PTRACE_SECCOMP_GET_FILTER, process, 0, FILTER);
	check(length, "filter");
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	check(fd, file);
	check(write(fd, FILTER, length * sizeof *FILTER), file);
	return close(fd);
}

// The cgroups of v1, as files to join them by: a thread that writes itself into `tasks` waits for no other.
static void join(const int *tasks, size_t count)
{
	for (size_t i = 0; i < count; i++)
		check(write(tasks[i], "0", 1), HIERARCHIES[i].name);
}

static void give_tasks(int socket, const char *name, size_t count)
{
	char path[256], space[CMSG_SPACE(sizeof(int) * 16)] = { 0 };
	int tasks[16];
	for (size_t i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/agent/%s/tasks", HIERARCHIES[i].name, name);
		tasks[i] = open(path, O_WRONLY | O_CLOEXEC);
		check(tasks[i], path);
	}
	struct iovec go = { "", 1 };
	struct msghdr message = { .msg_iov = &go, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space };
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
	message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
	memcpy(CMSG_DATA(rights), tasks, sizeof(int) * count);
	check(sendmsg(socket, &message, 0), "go");
	for (size_t i = 0; i < count; i++)
		close(tasks[i]);
}

static void take_tasks(int socket, size_t count)
{
	char word, space[CMSG_SPACE(sizeof(int) * 16)];
	struct iovec go = { &word, 1 };
	struct msghdr message = { .msg_iov = &go, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space };
	check(recvmsg(socket, &message, MSG_CMSG_CLOEXEC) - 1, "go");
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	check(rights ? 0 : -1, "tasks");
	int tasks[16];
	memcpy(tasks, CMSG_DATA(rights), sizeof(int) * count);
	join(tasks, count);
}

// Passes on what comes through these pipes until nobody has them open any more.
static void relay(const int *pipes, size_t count)
{
	struct pollfd polled[2] = { { pipes[0], POLLIN, 0 }, { pipes[1], POLLIN, 0 } };
	for (size_t open = count; open > 0;) {
		check(poll(polled, count, -1), "poll");
		for (size_t i = 0; i < count; i++) {
			static char bytes[65536];
			if (polled[i].revents == 0)
				continue;
			ssize_t length = read(polled[i].fd, bytes, sizeof bytes);
			check(length, "output");
			if (length > 0)
				check(write(i + 1, bytes, length), "output");
			else
				polled[i].fd = -1, open--;
		}
	}
}

int main(int count, char **words)
{
	if (count == 4 && strcmp(words[1], "filter") == 0)
		return save_filter(atoi(words[2]), words[3]);
	if (count < 6)
		return 125;
	const int whole = strcmp(words[1], "whole") == 0;
	const size_t places = whole ? ALL : 3;
	const struct sock_fprog program = whole ? filter(words[4]) : (struct sock_fprog){ 0 };
	words++;
	const char *name = words[1];
	char path[256];
	check(chdir("/sys/fs/cgroup"), "cgroups");
	if (!whole)
		cgroups(name, places);
	int pipes[2], output[2], errors[2];
	check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pipes), "sockets");
	if (whole) {
		check(pipe2(output, O_CLOEXEC), "pipe");
		check(pipe2(errors, O_CLOEXEC), "pipe");
	}
	struct clone_args arguments = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (whole ? 0 : CLONE_NEWNET),
		.exit_signal = SIGCHLD,
	};
	long child = syscall(SYS_clone3, &arguments, sizeof arguments);
	check(child, "clone3");
	if (child == 0) {
		if (whole)
			check(unshare(CLONE_NEWNET), "network namespace");
		loopback();
		check(setsid(), "session");
		check(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL), "keyring");
		check(sethostname(name, strlen(name)), "hostname");
		mounts(words[2]);
		if (whole)
			hide();
		close(pipes[1]);
		take_tasks(pipes[0], places);
		if (whole) {
			int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
			check(nothing, "/dev/null");
			check(dup2(nothing, 0), "input");
			check(dup2(output[1], 1), "output");
			check(dup2(errors[1], 2), "errors");
		}
		check(unshare(CLONE_NEWCGROUP), "cgroup namespace");
		if (whole)
			hierarchies(places);
		check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
		if (whole)
			give_up(&program);
		check(syscall(SYS_close_range, 3, ~0U, 0), "close_range");
		execv(words[4], words + 4);
		check(-1, words[4]);
	}
	close(pipes[0]);
	if (whole)
		cgroups(name, places);
	give_tasks(pipes[1], name, places);
	if (whole) {
		close(output[1]);
		close(errors[1]);
		relay((int[]){ output[0], errors[0] }, 2);
	}
	int status;
	check(waitpid(child, &status, 0), "wait");
	for (size_t i = 0; i < places; i++) {
		snprintf(path, sizeof path, "%s/agent/%s", HIERARCHIES[i].name, name);
		check(rmdir(path), path);
		// As `agent run`, where it was the last.
		snprintf(path, sizeof path, "%s/agent", HIERARCHIES[i].name);
		rmdir(path);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
