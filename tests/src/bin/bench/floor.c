// The least that a launch can be: `floor NAME ROOT COMMAND...` makes what `agent run` makes by default, namespaces, limits
// in three cgroups of v1, mounts, nodes, a loopback interface, in one program that checks nothing, reads no flag, keeps no
// state, and knows where everything is.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
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

static const char *const CONTROLLERS[] = { "memory", "cpu", "pids" };

static const struct {
	const char *path, *value;
} LIMITS[] = {
	{ "memory/agent/%s/memory.limit_in_bytes", "67108864" },
	{ "cpu/agent/%s/cpu.cfs_quota_us", "100000" },
	{ "pids/agent/%s/pids.max", "100" },
};

static const struct {
	const char *name;
	int major, minor;
} NODES[] = {
	{ "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 },
};

static void put(const char *format, const char *name, const char *value)
{
	char path[256];
	snprintf(path, sizeof path, format, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	check(fd, path);
	check(write(fd, value, strlen(value)), path);
	close(fd);
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

int main(int count, char **words)
{
	if (count < 4)
		return 125;
	const char *name = words[1];
	char path[256];
	check(chdir("/sys/fs/cgroup"), "cgroups");
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/agent", CONTROLLERS[i]);
		mkdir(path, 0755);
		snprintf(path, sizeof path, "%s/agent/%s", CONTROLLERS[i], name);
		check(mkdir(path, 0755), path);
	}
	for (size_t i = 0; i < sizeof LIMITS / sizeof *LIMITS; i++)
		put(LIMITS[i].path, name, LIMITS[i].value);
	int pipes[2];
	check(pipe2(pipes, O_CLOEXEC), "pipe");
	struct clone_args arguments = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
		.exit_signal = SIGCHLD,
	};
	long child = syscall(SYS_clone3, &arguments, sizeof arguments);
	check(child, "clone3");
	if (child == 0) {
		loopback();
		check(sethostname(name, strlen(name)), "hostname");
		mounts(words[2]);
		char go;
		close(pipes[1]);
		check(read(pipes[0], &go, 1) - 1, "go");
		check(unshare(CLONE_NEWCGROUP), "cgroup namespace");
		check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
		check(syscall(SYS_close_range, 3, ~0U, 0), "close_range");
		execv(words[3], words + 3);
		check(-1, words[3]);
	}
	close(pipes[0]);
	char pid[24];
	snprintf(pid, sizeof pid, "%ld", child);
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/agent/%s/cgroup.procs", CONTROLLERS[i], name);
		put("%s", path, pid);
	}
	check(write(pipes[1], "", 1), "go");
	int status;
	check(waitpid(child, &status, 0), "wait");
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/agent/%s", CONTROLLERS[i], name);
		check(rmdir(path), path);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
