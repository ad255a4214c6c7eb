from pathlib import Path

from edgefl.lab.cgroups import Hierarchies

HYBRID = """\
25 1 254:0 / / rw - ext4 /dev/vda rw
26 25 0:20 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
27 26 0:21 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
28 26 0:22 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
29 26 0:23 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
30 26 0:24 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
31 25 0:23 / /mnt/again rw,relatime - cgroup cgroup rw,memory
"""
PURE = """\
25 1 254:0 / / rw - ext4 /dev/vda rw
26 25 0:20 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
"""


def test_a_hybrid_machine_has_its_controllers_in_v1() -> None:
    machine = Hierarchies.parse(HYBRID)
    assert machine is not None
    assert machine.unified == Path("/sys/fs/cgroup/unified")
    assert machine.of("cpu") == machine.of("cpuacct") == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert machine.of("memory") == Path("/sys/fs/cgroup/memory")
    assert machine.of("io") is None
    assert len(machine.roots) == 4


def test_a_pure_v2_machine_has_one_hierarchy() -> None:
    machine = Hierarchies.parse(PURE)
    assert machine is not None
    assert machine.roots == (Path("/sys/fs/cgroup"),)
    assert machine.of("memory") is None


def test_a_machine_without_cgroup_v2_has_none() -> None:
    assert Hierarchies.parse("25 1 254:0 / / rw - ext4 /dev/vda rw\n") is None
