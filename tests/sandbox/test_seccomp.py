"""The filter, run by an interpreter of classic BPF, against what it must say of each call on each architecture."""

import errno
import struct

import pytest

from kimi_plugins.sandbox.seccomp import ABSENT, ARCHITECTURES, CHECKED, LAST_KNOWN, REFUSED, filter_program

ALLOW, KILL = 0x7FFF0000, 0x80000000


def refuse(error: int) -> int:
    return 0x00050000 | error


def decide(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel would do: BPF's loads of 32 bits, jumps and returns on struct seccomp_data."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator, at = 0, 0
    while True:
        code, yes, no, k = instructions[at]
        at += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            [accumulator] = struct.unpack_from("=I", data, k)
        elif code == 0x06:  # BPF_RET | BPF_K
            return k
        else:
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x45: bool(accumulator & k)}[code]
            at += yes if holds else no


@pytest.fixture(params=ARCHITECTURES)
def machine(request):
    return request.param


@pytest.fixture
def call(machine):
    """The filter's decision about one call of the machine; its column in the tables of system calls."""
    column, architecture = ARCHITECTURES[machine]
    program = filter_program(machine)
    return column, lambda number, *arguments: decide(program, architecture, number, *arguments)


def test_every_number_without_arguments(call):
    column, decision = call
    expected = dict.fromkeys(range(LAST_KNOWN + 1), ALLOW)
    expected |= {numbers[column]: refuse(errno.EPERM) for numbers in REFUSED.values() if numbers[column] is not None}
    expected |= {numbers[column]: refuse(errno.ENOSYS) for numbers in ABSENT.values()}
    expected |= {CHECKED[name][column]: refuse(errno.EAFNOSUPPORT) for name in ("socket", "socketpair")}
    expected |= dict.fromkeys((LAST_KNOWN + 1, 0x3FFFFFFF, 0x40000000 + 521, 0xFFFFFFFF), refuse(errno.ENOSYS))
    assert {number: decision(number) for number in expected} == expected
    assert len(set(expected.values())) == 4


def test_clone_with_any_new_namespace(call):
    column, decision = call
    number = CHECKED["clone"][column]
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert decision(number, flag | 17) == refuse(errno.EPERM)
    assert decision(number, 0x003D0F00) == ALLOW  # what pthread_create asks for
    assert decision(number, 0x01200011) == ALLOW  # what fork asks for


def test_sockets_of_one_family(call):
    column, decision = call
    for name in ("socket", "socketpair"):
        number = CHECKED[name][column]
        assert decision(number, 1) == ALLOW
        # The kernel takes the family as an int: the upper half of the register does not count.
        assert decision(number, 1 << 32 | 2) == refuse(errno.EAFNOSUPPORT)
        for family in range(2, 46):
            assert decision(number, family) == refuse(errno.EAFNOSUPPORT)


def test_terminals_get_no_input(call):
    column, decision = call
    number = CHECKED["ioctl"][column]
    assert [decision(number, 0, request) for request in (0x5412, 0x541C, 0x5413)] == [refuse(errno.EPERM)] * 2 + [
        ALLOW
    ]
    assert decision(number, 0, 1 << 32 | 0x5412) == refuse(errno.EPERM)


def test_calls_of_another_architecture_kill(machine):
    program = filter_program(machine)
    for other in (0x40000003, 0x40000028, 0):  # 32-bit x86 and ARM
        assert decide(program, other, 1) == KILL


def test_an_architecture_without_a_table():
    with pytest.raises(ValueError, match="no system-call table for riscv64; use x86_64 or aarch64"):
        filter_program("riscv64")
