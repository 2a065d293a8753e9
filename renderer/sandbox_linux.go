//go:build linux && (amd64 || arm64)

// The kernel's word that the worker opens no file, no socket and no program, whatever the libraries in it come to do.
//
// A seccomp filter on all threads answers EPERM to the system calls that make something out of nothing but memory. What
// is open already (three pipes, and what Go's runtime opened for itself) stays usable.
package main

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// denied lists system calls that exist on both architectures; deniedHere has those of one.
var denied = []uint32{
	unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BIND,
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_IO_URING_SETUP, unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT,
	unix.SYS_SYMLINKAT, unix.SYS_MKNODAT, unix.SYS_FCHMODAT, unix.SYS_FCHOWNAT, unix.SYS_TRUNCATE, unix.SYS_MOUNT,
	unix.SYS_BPF, unix.SYS_USERFAULTFD, unix.SYS_PIDFD_GETFD, unix.SYS_UNSHARE, unix.SYS_SETNS,
}

const (
	// Offsets in the kernel's struct seccomp_data: the number of the call, then the architecture.
	offsetCall, offsetArch = 0, 4
	// x32Bit marks calls of amd64's second numbering, which would slip past the list.
	x32Bit = 0x40000000
)

// confine installs the filter for the whole process, for good.
func confine() error {
	filter := program(append(denied, deniedHere...))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("giving up new privileges: %w", err)
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// TSYNC sets it for all threads at once, or says which one it could not be set for.
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("installing the filter: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("installing the filter: thread %d has another one", thread)
	}
	return nil
}

func program(calls []uint32) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	jump := func(test uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	refuse := answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	filter := []unix.SockFilter{
		load(offsetArch), jump(unix.BPF_JEQ, auditArch, 1, 0), refuse,
		load(offsetCall), jump(unix.BPF_JGE, x32Bit, 0, 1), refuse,
	}
	for _, call := range calls {
		filter = append(filter, jump(unix.BPF_JEQ, call, 0, 1), refuse)
	}
	return append(filter, answer(unix.SECCOMP_RET_ALLOW))
}
