"""A program: outer_filter.py CALL[,CALL...] ERRNO PROGRAM [ARGUMENT...] executes PROGRAM under a seccomp filter that answers
the calls with that errno, as the filter of a container around the runtime does."""
import ctypes
import errno
import os
import struct
import sys

# One number on all architectures that came after 2018.
NUMBERS = {"open_tree": 428, "fsopen": 430, "clone3": 435, "close_range": 436, "openat2": 437, "pidfd_getfd": 438,
           "mount_setattr": 442}

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


def program(calls, code):
    rules = [struct.pack("HBBI", _LOAD, 0, 0, 0)]
    for name in calls:
        rules.append(struct.pack("HBBI", _EQUAL, 0, 1, NUMBERS[name]))
        rules.append(struct.pack("HBBI", _RETURN, 0, 0, _ERRNO | code))
    return b"".join([*rules, struct.pack("HBBI", _RETURN, 0, 0, _ALLOW)])


def main():
    filters = program(sys.argv[1].split(","), getattr(errno, sys.argv[2]))
    buffer = ctypes.create_string_buffer(filters, len(filters))
    header = struct.pack("HxxxxxxP", len(filters) // 8, ctypes.addressof(buffer))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0) < 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()
