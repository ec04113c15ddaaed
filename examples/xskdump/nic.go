package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/rights"
)

// A nic is the interface: what it counts, and its promiscuous mode. That
// lasts as long as the socket is open, so it ends with the process, and an
// interface that somebody else needs promiscuous stays so.
type nic struct {
	*net.Interface
	socket int // -1 without
	before drops
}

// drops are what the driver and the kernel count before there is a socket.
type drops struct{ errors, dropped, overruns uint64 }

func openNIC(ifname string) (*nic, error) {
	i, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("there is no interface %s here", ifname)
	}
	n := &nic{Interface: i, socket: -1}
	n.before, err = n.drops()
	return n, err
}

// multiBuffer is BindMultiBuffer if a packet can be longer than a frame. Not
// otherwise: for zero copy few drivers have it.
func (n *nic) multiBuffer() xsk.BindFlags {
	const header, room = 14 + 2*4, xsk.DefaultFrameSize - 256
	if n.MTU+header > room {
		return xsk.BindMultiBuffer
	}
	return 0
}

func (n *nic) setPromiscuous() (err error) {
	n.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // 0: it receives nothing
	if err == nil {
		err = unix.SetsockoptPacketMreq(n.socket, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(n.Index), Type: unix.PACKET_MR_PROMISC})
	}
	if err != nil {
		return fmt.Errorf("promiscuous mode of %s: %w", n.Name, rights.RawRefused(err, "AF_PACKET"))
	}
	return nil
}

func (n *nic) close() {
	if n.socket >= 0 {
		unix.Close(n.socket)
	}
}

// drops reads the interface's line of /proc/net/dev. (That one is of the namespace of the
// process's first thread.)
func (n *nic) drops() (d drops, err error) {
	table, err := os.ReadFile("/proc/thread-self/net/dev")
	if err != nil {
		return d, err
	}
	for line := range strings.Lines(string(table)) {
		name, counts, _ := strings.Cut(line, ":")
		if fields := strings.Fields(counts); strings.TrimSpace(name) == n.Name && len(fields) > 4 {
			for i, to := range []*uint64{&d.errors, &d.dropped, &d.overruns} { // behind bytes and packets
				if *to, err = strconv.ParseUint(fields[2+i], 10, 64); err != nil {
					return d, err
				}
			}
			return d, nil
		}
	}
	return d, fmt.Errorf("/proc/thread-self/net/dev does not show %s", n.Name)
}

// report prints what was lost before it came to a socket, since openNIC: of all
// packets, for whomever they were.
func (n *nic) report(w io.Writer) {
	now, err := n.drops()
	if err != nil {
		fmt.Fprintf(w, "xskdump: no counts of the interface: %v\n", err)
		return
	}
	fmt.Fprintf(w, "xskdump: %s dropped=%d errors=%d overruns=%d\n", n.Name,
		now.dropped-n.before.dropped, now.errors-n.before.errors, now.overruns-n.before.overruns)
}
