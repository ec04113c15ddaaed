package netstack

import (
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/rights"
)

// groups are the Ethernet groups where others ask for our IPv6 addresses
// (solicited-node multicast): a NIC drops what is for groups that nobody has joined.
// A packet socket that receives nothing joins them, for as long as it is open.
type groups struct {
	mu      sync.Mutex
	fd      int // 0 before open
	ifindex int
	joined  map[[6]byte]bool
}

func (g *groups) open(ifindex int) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("packet socket for multicast groups: %w", rights.RawRefused(err, "AF_PACKET"))
	}
	g.fd, g.ifindex, g.joined = fd, ifindex, map[[6]byte]bool{}
	return nil
}

// join makes the groups those of the addresses.
func (g *groups) join(addresses []netip.Prefix) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fd == 0 {
		return nil
	}
	want := map[[6]byte]bool{}
	for _, p := range addresses {
		if a := p.Addr(); a.Is6() {
			b := a.As16()
			want[[6]byte{0x33, 0x33, 0xff, b[13], b[14], b[15]}] = true
		}
	}
	for mac := range want {
		if !g.joined[mac] {
			if err := g.change(unix.PACKET_ADD_MEMBERSHIP, mac); err != nil {
				return fmt.Errorf("join %x: %w", mac, err)
			}
			g.joined[mac] = true
		}
	}
	for mac := range g.joined {
		if !want[mac] {
			_ = g.change(unix.PACKET_DROP_MEMBERSHIP, mac)
			delete(g.joined, mac)
		}
	}
	return nil
}

func (g *groups) change(how int, mac [6]byte) error {
	m := unix.PacketMreq{Ifindex: int32(g.ifindex), Type: unix.PACKET_MR_MULTICAST, Alen: uint16(len(mac))}
	copy(m.Address[:], mac[:])
	return unix.SetsockoptPacketMreq(g.fd, unix.SOL_PACKET, how, &m)
}

func (g *groups) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fd == 0 {
		return nil
	}
	err := unix.Close(g.fd)
	g.fd = 0
	return err
}
