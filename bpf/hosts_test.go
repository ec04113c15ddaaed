package bpf_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// arp is an ARP packet: operation 1 asks, 2 answers.
func arp(operation uint16, sender, target string) []byte {
	p := append(be16(1, typeIPv4, 0x0604, operation), 2, 0, 0, 0, 0, 1)
	p = append(append(p, netip.MustParseAddr(sender).AsSlice()...), 2, 0, 0, 0, 0, 2)
	return ethernet(0x0806, append(p, netip.MustParseAddr(target).AsSlice()...))
}

// nd is a neighbour solicitation (135) or advertisement (136) about an address.
func nd(kind byte, destination, target string) []byte {
	return packetOf("fe80::1", destination, 58, append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, netip.MustParseAddr(target).AsSlice()...))
}

// hosts are a stack's, beside a kernel's 192.0.2.1 and 2001:db8::1. The last two
// addresses ask for theirs by the same multicast group.
var hosts = addresses("192.0.2.9", "192.0.2.10", "2001:db8::9", "2001:db8:1::1")

func TestFilterHosts(t *testing.T) {
	datagram := func(destination string) []byte {
		source := "192.0.2.200"
		if netip.MustParseAddr(destination).Is6() {
			source = "2001:db8::200"
		}
		return packetOf(source, destination, udp, ported(udp, 9, 9))
	}
	within := func(vlan, packet []byte) []byte { return append(append(clone(packet[:12]), vlan...), packet[12:]...) }
	request := arp(1, "192.0.2.200", "192.0.2.9")
	solicitation := nd(135, "ff02::1:ff00:9", "2001:db8::9")
	samples := []sample{
		{"IPv4", datagram("192.0.2.9"), true}, {"second", datagram("192.0.2.10"), true}, {"byte order", datagram("9.2.0.192"), false},
		{"the kernel's", datagram("192.0.2.1"), false}, {"next", datagram("192.0.2.8"), false}, {"next", datagram("192.0.2.11"), false},
		{"from it", packetOf("192.0.2.9", "192.0.2.200", udp, ported(udp, 9, 9)), false},
		{"later fragment", poke(datagram("192.0.2.9"), 14+7, 10), true}, {"broadcast", datagram("255.255.255.255"), false},
		{"IPv6", datagram("2001:db8::9"), true}, {"the kernel's, IPv6", datagram("2001:db8::1"), false}, {"group", datagram("ff02::1:ff00:9"), false},
		{"ARP request", request, true}, {"ARP request in a VLAN", within(be16(typeVLAN, 42), request), true},
		{"ARP answer", arp(2, "192.0.2.200", "192.0.2.10"), true}, {"ARP probe", arp(1, "0.0.0.0", "192.0.2.9"), true},
		{"ARP for the kernel", arp(1, "192.0.2.200", "192.0.2.1"), false}, {"ARP answer to the kernel", arp(2, "192.0.2.9", "192.0.2.1"), false},
		{"unasked-for ARP", arp(1, "192.0.2.200", "192.0.2.200"), false}, {"ARP cut short", request[:14+27], false},
		{"ARP of another protocol", poke(clone(request), 14+2, 7), false}, {"of other addresses", poke(clone(request), 14+4, 8), false},
		{"of longer addresses", poke(clone(request), 14+5, 16), false}, {"RARP", poke(poke(clone(request), 12, 0x80), 13, 0x35), false},
		{"solicitation", solicitation, true}, {"sent to the host", nd(135, "2001:db8::9", "2001:db8::9"), true},
		{"for the other host", nd(135, "ff02::1:ff00:1", "2001:db8:1::1"), true}, {"for the kernel, same group", nd(135, "ff02::1:ff00:1", "2001:db8::1"), false},
		{"advertisement to the host", nd(136, "2001:db8::9", "fe80::1"), true}, {"to everybody", nd(136, "ff02::1", "2001:db8::9"), false},
		{"router advertisement", nd(134, "ff02::1", "2001:db8::9"), false}, {"solicitation cut short", solicitation[:14+40+23], false},
		{"over IPv4", packetOf("192.0.2.200", "192.0.2.1", 58, solicitation[54:]), false},
		{"behind options", ethernet(typeIPv6, ipv6(hopByHop, ext(58, 0, solicitation[54:]))), true},
	}
	t.Run("rules", func(t *testing.T) { try(t, bpf.Filter{Hosts: hosts}, samples) })
	t.Run("exceptions", func(t *testing.T) {
		doubt := map[string]bool{"ARP cut short": true, "solicitation cut short": true}
		var turned []sample
		for _, s := range samples {
			turned = append(turned, sample{s.name, s.packet, !s.want && !doubt[s.name]})
		}
		try(t, bpf.Filter{All: true, Except: &bpf.Filter{Hosts: hosts}}, turned)
	})
	t.Run("IPv4 only", func(t *testing.T) {
		try(t, bpf.Filter{Hosts: hosts[:2]}, []sample{{"ARP", request, true}, {"ND", solicitation, false}})
		try(t, bpf.Filter{All: true, Except: &bpf.Filter{Hosts: hosts[:2]}}, []sample{{"ARP excepted", request, false}, {"ND is in no doubt", solicitation[:14+40+23], true}})
	})
	t.Run("IPv6 only", func(t *testing.T) {
		try(t, bpf.Filter{Hosts: hosts[2:]}, []sample{{"ARP", request, false}, {"ND", solicitation, true}})
		try(t, bpf.Filter{All: true, Except: &bpf.Filter{Hosts: hosts[2:]}}, []sample{{"ARP is in no doubt", request[:14+27], true}, {"ND excepted", solicitation, false}})
	})
	t.Run("management goes first", func(t *testing.T) {
		try(t, bpf.Filter{Hosts: hosts, KeepManagement: true}, []sample{{"ARP", request, false}, {"ND", solicitation, false}, {"IPv4", datagram("192.0.2.9"), true}})
	})
}

// TestHostsBesideTheKernel has the kernel answer for its own address, while a
// socket gets the ARP requests for another one.
func TestHostsBesideTheKernel(t *testing.T) {
	for _, mode := range bothModes {
		t.Run(mode.String(), func(t *testing.T) {
			peer := testns.MakePeer(t)
			kernel := openTap(t, peer.Near)
			p := attach(t, peer.Near, bpf.Options{Mode: mode, Filter: bpf.Filter{Hosts: addresses("192.0.2.9")}})
			require.NoError(t, p.WaitLink(timeout(t, 5*time.Second)))
			umem, socket := open(t, peer.Near, 0)
			require.NoError(t, socket.UpdateXSKMap(p))
			testns.IP(t, "neigh", "flush", "dev", peer.Near)
			require.NoError(t, peer.Do(func() error {
				stray, err := net.Dial("udp", "192.0.2.9:9") // asks by ARP, in vain
				if err != nil {
					return err
				}
				defer stray.Close()
				if _, err = stray.Write([]byte("anybody there?")); err != nil {
					return err
				}
				return ping("192.0.2.1")
			}))
			ready, err := socket.PollRx(10 * time.Second)
			require.NoError(t, err)
			require.True(t, ready, "the request did not reach the socket")
			descs := make([]xsk.Desc, 1)
			_, _, err = socket.RxBurst(nil, descs)
			require.NoError(t, err)
			frame := umem.Bytes(descs[0])
			assert.Equal(t, be16(0x0806), frame[12:14])
			assert.Equal(t, []byte{192, 0, 2, 9}, frame[38:42])
			assert.False(t, kernel.sees(t, frame, 20*time.Millisecond), "the kernel got it as well")
			assert.NotZero(t, ruleCount(count(t, p), "Hosts"))
			assert.NotZero(t, count(t, p).Passed)
		})
	}
}
