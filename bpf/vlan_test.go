package bpf_test

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// TestFilterSeesNoTagBesideThePacket is what the package comment warns of: veth,
// like many NICs, hands a tag over beside the packet. A VLAN rule finds nothing
// then, and the other rules find the packet as if it had no tag; until the
// offload is off.
func TestFilterSeesNoTagBesideThePacket(t *testing.T) {
	testns.Need(t, "6.6 tcx, which this test makes tags with")
	for _, mode := range bothModes {
		t.Run(mode.String(), func(t *testing.T) {
			a, b := testns.Veth{}.Make(t)
			pushTag(t, b)
			wire := openTap(t, b)
			p := attach(t, a, bpf.Options{Filter: bpf.Filter{VLAN: 42, UDPPorts: []uint16{53}}, Mode: mode})
			require.NoError(t, register(t, p.FileDescriptor(), 0))
			packet := packetOf("10.0.0.1", "10.0.0.2", udp, ported(udp, 9, 53))
			counted := func(rule string) {
				t.Helper()
				var c bpf.Counters
				before := ruleCount(count(t, p), rule)
				wire.send(t, packet)
				assert.Eventually(t, func() bool { c = count(t, p); return ruleCount(c, rule) == before+1 }, 5*time.Second, time.Millisecond, "%s: %v", rule, c)
			}
			counted("UDPPorts")
			testns.TxVLANOff(t, b)
			counted("UDPPorts") // the first of the two rules
			require.NoError(t, p.Update(bpf.Filter{VLAN: 42}))
			counted("VLAN")
		})
	}
}

// pushTag tags what an interface sends, as a VLAN interface on it would: by a tc
// program.
func pushTag(t *testing.T, ifname string) {
	t.Helper()
	const schedCLS, tcxEgress, vlanPush = 3, 47, 18 // BPF_PROG_TYPE_SCHED_CLS, BPF_TCX_EGRESS, bpf_skb_vlan_push
	prog := loadProgram(t, schedCLS, []uint64{
		0xb7 | 2<<8 | 0x81<<32, // r2 = htons(ETH_P_8021Q)
		0xb7 | 3<<8 | 42<<32,
		0x85 | vlanPush<<32,
		0xb7, // r0 = TCX_PASS
		0x95,
	})
	device, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	create := struct {
		prog, ifindex, kind, flags uint32
		_                          [16]byte
	}{prog: uint32(prog), ifindex: uint32(device.Index), kind: tcxEgress}
	link, err := sysBPF(unix.BPF_LINK_CREATE, unsafe.Pointer(&create), unsafe.Sizeof(create))
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(link) })
}

func count(t *testing.T, p *bpf.Program) bpf.Counters {
	t.Helper()
	c, err := p.Counters()
	require.NoError(t, err)
	return c
}

// TestAllTagsAreAlike: some switches write 0x9100 for the outer tag of two.
func TestAllTagsAreAlike(t *testing.T) {
	inner := packetOf("10.0.0.1", "10.0.0.2", udp, ported(udp, 9, 53))[14:]
	ssh := packetOf("10.0.0.1", "10.0.0.2", tcp, ported(tcp, 9, 22))[14:]
	types := []uint16{typeVLAN, typeQinQ, 0x9100}
	within := func(ip []byte, tags ...uint16) []byte { // VLANs 7 and 42
		p := uint16(typeIPv4)
		for i, typ := range slices.Backward(tags) {
			ip = append(be16(uint16([]int{7, 42}[i]), p), ip...)
			p = typ
		}
		return ethernet(p, ip)
	}
	for _, outer := range types {
		for _, tags := range [][]uint16{{outer}, {outer, typeVLAN}, {outer, typeQinQ}, {outer, 0x9100}} {
			t.Run(fmt.Sprintf("%#x", tags), func(t *testing.T) {
				packet, login := within(inner, tags...), within(ssh, tags...)
				try(t, bpf.Filter{UDPPorts: []uint16{53}}, []sample{{"port", packet, true}, {"ssh", login, false}})
				try(t, bpf.Filter{VLAN: 7}, []sample{{"outer", packet, true}})
				try(t, bpf.Filter{VLAN: 42}, []sample{{"inner", packet, len(tags) == 2}})
				try(t, bpf.Filter{EtherTypes: []uint16{typeIPv4}}, []sample{{"type", packet, true}})
				try(t, bpf.Filter{All: true, Except: &bpf.Filter{UDPPorts: []uint16{53}}}, []sample{{"port", packet, false}, {"ssh", login, true}})
				try(t, bpf.Filter{All: true, Except: &bpf.Filter{VLAN: 7}}, []sample{{"outer", packet, false}})
				try(t, bpf.Filter{All: true, KeepManagement: true}, []sample{{"ssh", login, false}, {"port", packet, true}})
			})
		}
		_, err := bpf.Filter{EtherTypes: []uint16{outer}}.Func()
		assert.ErrorContains(t, err, "is a VLAN tag's")
	}
}
