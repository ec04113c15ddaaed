package netstack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/rights"
)

// A packetSocket hears a copy of what the XDP program leaves to the kernel on one
// interface: answers of DHCP servers, ARP and neighbour discovery. Nothing is taken
// from the kernel by it. What the program redirects does not come here, in either
// mode, so no packet reaches a Host twice.
//
// It is made once, in Open, because a socket belongs to the network namespace of the
// thread that makes it. While nobody wants anything its filter drops all.
type packetSocket struct {
	file *os.File
	raw  syscall.RawConn
	done chan struct{} // closed when the reader has ended
}

// A wish is what a packetSocket is to pass on.
type wish struct {
	dhcp       bool // UDP to port 68, and ARP
	neighbours bool // ARP and IPv6 neighbour discovery
}

const (
	snapshot = 1 << 16 // the longest packet

	// Of <linux/if_packet.h>.
	packetIgnoreOutgoing = 23
	statusNotReady       = 1 << 3 // TP_STATUS_CSUMNOTREADY
)

// openPacketSocket makes one that calls hear, in a goroutine of its own, for each
// packet. frame is valid until hear returns. unfinished says that the sender, which is
// on this machine, has left the transport checksum to a device.
func openPacketSocket(ifindex int, hear func(frame []byte, unfinished bool)) (*packetSocket, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", rights.RawRefused(err, "AF_PACKET"))
	}
	s := &packetSocket{file: os.NewFile(uintptr(fd), "packet socket"), done: make(chan struct{})}
	if s.raw, err = s.file.SyscallConn(); err == nil {
		err = s.want(wish{})
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1)
	}
	if err == nil {
		// The filter would drop them, too, but after they have been counted.
		_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, packetIgnoreOutgoing, 1)
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: ifindex})
	}
	if err != nil {
		_ = s.file.Close()
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	go s.read(hear)
	return s, nil
}

// networkOrder is htons.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// want sets what is passed on from now on.
func (s *packetSocket) want(w wish) error {
	code, err := bpf.Assemble(w.filter())
	if err != nil {
		return err
	}
	filters := make([]unix.SockFilter, len(code))
	for i, c := range code {
		filters[i] = unix.SockFilter{Code: c.Op, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	var failed error
	err = s.raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]})
	})
	return errors.Join(err, failed)
}

// filter is the wish as a classic BPF program. Each rule begins with the EtherType
// loaded, and ends with a return or with the load of the next rule.
func (w wish) filter() []bpf.Instruction {
	drop, pass := bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: snapshot}
	if w == (wish{}) {
		return []bpf.Instruction{drop}
	}
	const outgoing = 4 // PACKET_OUTGOING
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent}, // another network's
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1}, drop,
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: outgoing, SkipTrue: 1}, drop,
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_ARP, SkipTrue: 1}, pass,
	}
	if w.dhcp {
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 9},
			bpf.LoadAbsolute{Off: ethernet + 9, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoUDP, SkipTrue: 6},
			bpf.LoadAbsolute{Off: ethernet + 6, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 4}, // a fragment
			bpf.LoadMemShift{Off: ethernet},
			bpf.LoadIndirect{Off: ethernet + 2, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: dhcpPort, SkipTrue: 1},
			pass,
			drop,
		)
	}
	if w.neighbours {
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IPV6, SkipTrue: 6},
			bpf.LoadAbsolute{Off: ethernet + 6, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoICMPv6, SkipTrue: 4},
			bpf.LoadAbsolute{Off: ethernet + 40, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: neighbourSolicitation, SkipTrue: 1},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: neighbourAdvertisement, SkipTrue: 1},
			pass,
		)
	}
	return append(program, drop)
}

// ICMPv6 types of neighbour discovery.
const (
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
)

// read goes on until close. An interface that goes down is an error once; when it is
// up again the kernel goes on.
func (s *packetSocket) read(hear func([]byte, bool)) {
	defer close(s.done)
	frame, control := make([]byte, snapshot), make([]byte, 256)
	for {
		var n, controls int
		var failed error
		err := s.raw.Read(func(fd uintptr) bool {
			n, controls, _, _, failed = unix.Recvmsg(int(fd), frame, control, 0)
			return failed != unix.EAGAIN
		})
		switch {
		case err != nil:
			return
		case failed == nil:
			hear(frame[:n], unfinished(control[:controls]))
		case failed != unix.ENETDOWN && failed != unix.ENOBUFS && failed != unix.EINTR:
			return
		}
	}
}

// unfinished looks for the status that PACKET_AUXDATA gives.
func unfinished(control []byte) bool {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return false
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 4 {
			return binary.NativeEndian.Uint32(m.Data)&statusNotReady != 0
		}
	}
	return false
}

// close returns when hear is not called any more.
func (s *packetSocket) close() error {
	if s == nil {
		return nil
	}
	err := s.file.Close()
	<-s.done
	return err
}
