package testns

import (
	"net"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// AttachXDP loads an XDP program of BPF instructions and attaches it by a
// bpf_link until t ends; flags are XDP_FLAGS_*. It stands for a program that
// somebody else has brought.
func AttachXDP(t testing.TB, ifname, name string, flags uint32, code ...uint64) {
	t.Helper()
	license := []byte("GPL\x00")
	load := struct {
		kind, count    uint32
		code, license  unsafe.Pointer
		level, size    uint32
		log            unsafe.Pointer
		version, flags uint32
		name           [16]byte
	}{kind: unix.BPF_PROG_TYPE_XDP, count: uint32(len(code)), code: unsafe.Pointer(&code[0]), license: unsafe.Pointer(&license[0])}
	copy(load.name[:], name)
	prog := BPF(t, unix.BPF_PROG_LOAD, unsafe.Pointer(&load), unsafe.Sizeof(load))
	defer unix.Close(prog)
	LinkXDP(t, ifname, prog, flags)
}

// LinkXDP attaches an XDP program by a bpf_link until t ends; flags are XDP_FLAGS_*.
func LinkXDP(t testing.TB, ifname string, prog int, flags uint32) {
	t.Helper()
	device, err := net.InterfaceByName(ifname)
	if err != nil {
		t.Fatal(err)
	}
	create := struct{ prog, ifindex, kind, flags uint32 }{uint32(prog), uint32(device.Index), unix.BPF_XDP, flags}
	link := BPF(t, unix.BPF_LINK_CREATE, unsafe.Pointer(&create), unsafe.Sizeof(create))
	t.Cleanup(func() { unix.Close(link) })
}

// BPF is the system call, which must succeed.
func BPF(t testing.TB, command int, attributes unsafe.Pointer, size uintptr) int {
	t.Helper()
	r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attributes), size)
	for tries := 0; errno == unix.EAGAIN && tries < 100; tries++ { // a signal ends the verifier
		r, _, errno = unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attributes), size)
	}
	if errno != 0 {
		t.Fatalf("bpf command %d: %v", command, errno)
	}
	return int(r)
}
