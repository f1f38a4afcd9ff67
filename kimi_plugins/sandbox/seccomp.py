"""The system-call filter of the sandbox, as classic BPF for x86_64 and aarch64.

Assembled here rather than by libseccomp: some ninety refusals need no compiler, and no library on every node.
"""

import errno
import platform
import struct

# name: (x86_64, aarch64); None where the architecture has no such call. Numbers from the kernel's unistd.h.
REFUSED: dict[str, tuple[int, int | None]] = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # parts of the kernel with a history of holes and no use here
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "memfd_secret": (447, 447),
    "modify_ldt": (154, None),
    "personality": (135, 92),
    "lookup_dcookie": (212, 18),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "vhangup": (153, 58),
    "nfsservctl": (180, 42),
    "_sysctl": (156, None),
    # memory of other NUMA nodes and processes
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "set_mempolicy_home_node": (450, 450),
    # its share of the cores: a program that waits on purpose must not look like one that the machine kept waiting
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    # the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "acct": (163, 89),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
}
# Answered as by a kernel without them, for which libraries have a second way: clone3's flags lie in memory, out of
# the filter's sight.
ABSENT: dict[str, tuple[int, int]] = {
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_setup": (206, 0),
}
LAST_KNOWN = 462  # mseal; what later kernels add is answered as absent
CHECKED = {"clone": (56, 220), "ioctl": (16, 29), "socket": (41, 198), "socketpair": (53, 199)}

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_*
NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET
AF_UNIX = 1
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # put characters into the terminal's input

_LOAD, _JEQ, _JSET, _JGT, _RETURN = 0x20, 0x15, 0x45, 0x25, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24  # offsets in struct seccomp_data


def filter_program(machine: str | None = None) -> bytes:
    """The filter as an array of struct sock_filter, for bwrap's --seccomp; machine: as platform.machine() says.

    Raises:
        ValueError: no table of system calls for the machine.
    """
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        raise ValueError(f"no system-call table for {machine}; use {' or '.join(ARCHITECTURES)}")
    column, architecture = ARCHITECTURES[machine]

    def refuse(number: int, error: int) -> list[tuple]:
        return [(_JEQ, 0, 1, number), (_RETURN, 0, 0, _ERRNO | error)]

    # Calls of another architecture (32-bit programs) have other numbers.
    program = [(_LOAD, 0, 0, _ARCHITECTURE), (_JEQ, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    program += [(_LOAD, 0, 0, _NUMBER), (_JGT, 0, 1, LAST_KNOWN), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    for numbers in REFUSED.values():
        if (number := numbers[column]) is not None:
            program += refuse(number, errno.EPERM)
    for known in ABSENT.values():
        program += refuse(known[column], errno.ENOSYS)
    refused = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    program += _check(
        CHECKED["clone"][column], [(_LOAD, 0, 0, _FIRST_ARGUMENT), (_JSET, 0, 1, NEW_NAMESPACES), refused]
    )
    program += _check(
        CHECKED["ioctl"][column],
        [(_LOAD, 0, 0, _SECOND_ARGUMENT), (_JEQ, 1, 0, TIOCSTI), (_JEQ, 0, 1, TIOCLINUX), refused],
    )
    for name in ("socket", "socketpair"):
        no_family = (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT)
        program += _check(CHECKED[name][column], [(_LOAD, 0, 0, _FIRST_ARGUMENT), (_JEQ, 1, 0, AF_UNIX), no_family])
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _check(number: int, instructions: list[tuple]) -> list[tuple]:
    """Instructions for one call, which allow it if they come to their end."""
    return [(_JEQ, 0, len(instructions) + 1, number), *instructions, (_RETURN, 0, 0, _ALLOW)]
