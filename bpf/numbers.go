package bpf

const (
	etherTypeVLAN = 0x8100
	etherTypeQinQ = 0x88a8
)

// A portSet is udp_ports in redirect.bpf.c: one bit per port.
type portSet [65536 / 64]uint64

func newPortSet(ports []uint16) *portSet {
	var s portSet
	for _, port := range ports {
		s[port/64] |= 1 << (port % 64)
	}
	return &s
}
