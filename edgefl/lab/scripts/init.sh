#!/bin/sh
# PID 1 of a lab host: on a machine with cgroup v1 controllers, give this host's systemd its own part of them to write to
# (MemoryMax=, CPUQuota=, TasksMax= need it; nspawn mounts them read-only). On a pure v2 machine there is nothing to do.
for controller in cpu cpuacct cpu,cpuacct memory pids blkio freezer cpuset; do
  [ -d "/sys/fs/cgroup/$controller" ] && [ ! -L "/sys/fs/cgroup/$controller" ] && [ -f "/sys/fs/cgroup/$controller/tasks" ] || continue
  mount -o remount,bind,rw,nosuid,nodev,noexec "/sys/fs/cgroup/$controller" || echo "lab: $controller stays read-only" >&2
done
# udev does so on every Debian, and there is none in here: who makes a tunnel needs no root for that, but CAP_NET_ADMIN.
[ ! -e /dev/net/tun ] || chmod 666 /dev/net/tun
exec /lib/systemd/systemd "$@"
