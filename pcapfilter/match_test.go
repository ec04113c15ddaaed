package pcapfilter_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcap"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/pcapfilter"
)

// expressions, with the packets that each matches by pcap-filter(7), where the
// name of the expression does not say it.
var expressions = []struct {
	filter pcapfilter.Filter
	some   string // a packet that matches
	other  string // one that does not; "" if all do
}{
	{"greater 0", "arp", ""},
	{"less 60", "arp", "large"},
	{"greater 1000", "large", "arp"},
	{"len <= 62 and udp", "udp", "large"},
	{"ip", "udp", "udp6"},
	{"ip6", "udp6", "udp"},
	{"arp", "arp", "udp"},
	{"ether proto 0x88cc", "lldp", "arp"},
	{"udp", "udp6", "tcp6"},
	{"tcp", "tcp6", "udp6"},
	{"icmp", "icmp echo", "icmp6"},
	{"icmp6", "icmp6", "icmp echo"},
	{"ip proto 47", "gre", "udp"},
	{"ip6 proto 44", "fragment6", "udp6"},
	{"ip6 and udp", "udp fragment6", "hop by hop"},
	{"port 53", "udp answer", "udp fragment6"},
	{"udp dst port 53", "udp options", "udp answer"},
	{"udp src port 53", "udp answer", "udp"},
	{"portrange 4000-4005", "udp", "tcp syn"},
	{"udp dst portrange 4005-4010", "udp empty", "udp"},
	{"tcp port 443", "tcp data", "tcp ssh"},
	{"not port 443", "later fragment", "tcp6"},
	{"not tcp port 22 and not arp", "udp", "tcp ssh"},
	{"host 192.0.2.1", "arp", "udp6"},
	{"src host 198.51.100.2 or ip6", "tcp6", "udp"},
	{"net 198.51.100.0/24", "gre", "icmp6"},
	{"dst net 2001:db8:1::/48", "udp6", "udp"},
	{"ip6 host 2001:db8::1", "hop by hop", "udp"},
	{"ether src 02:00:00:00:00:01", "lldp", ""},
	{"ether dst 02:00:00:00:00:02", "lldp", ""},
	{"not ether multicast", "lldp", ""},
	{"vlan", "two tags", "udp"},
	{"vlan 42 and udp port 53", "vlan", "udp"},
	{"vlan 43 and ip6 and tcp", "vlan tcp6", "vlan"},
	{"vlan 7 and vlan 42 and ip", "two tags", "vlan"},
	{"udp or (vlan and udp)", "vlan", "vlan tcp6"},
	{"tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", "tcp syn", "tcp syn ack"},
	{"tcp[tcpflags] & tcp-ack != 0", "tcp ssh", "tcp syn"},
	{"ip[6:2] & 0x1fff != 0", "later fragment", "first fragment"},
	{"ip[6:2] & 0x3fff != 0", "first fragment", "udp"},
	{"ip[0] & 0xf > 5", "udp options", "udp"},
	{"icmp[icmptype] == icmp-echo", "icmp echo", "icmp reply"},
	{"udp[8:4] == 0x00010203", "udp options", "udp empty"},
	{"ether[12:2] == 0x0806", "arp", "udp"},
	{"udp[4:2] > 100", "udp answer", "udp"},
	{"ip[8] < 65 and ip[2:2] % 3 == 0", "udp", "tcp syn"},
	{"udp or ether[70000] == 1", "udp6", "tcp6"},
	{"ip[2:2] / ip[8] > 10", "large", "udp"},
	{"ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) != 0 and tcp", "tcp data", "tcp syn"},
	{"ip[ip[8]] == 0x24 or udp[100] == 0x5c", "udp answer", "udp"},
	{"ip[(ip[0] & 0xf) * 4 + 2:2] == 53", "udp options", "udp answer"},
	{"ether[14 + len - len] = 0x45 and (len - 14 == ip[2:2])", "udp", "udp6"},
	{"-ip[8] == 0xffffffc0", "udp", "arp"},
	{"tcp port (80 or 443 or 8080) and net (192.0.2.0/24 or 203.0.113.0/24) and not host 203.0.113.9", "tcp syn", "tcp6"},
}

func TestMain(m *testing.M) {
	if ifname := os.Getenv(helperInterface); ifname != "" {
		helper(ifname)
	}
	testns.Main(m)
}

// A reference is libpcap's own bpf_filter.
func reference(t testing.TB, f pcapfilter.Filter) func([]byte) bool {
	t.Helper()
	code, err := pcap.NewBPF(layers.LinkTypeEthernet, 262144, string(f))
	require.NoError(t, err)
	return func(packet []byte) bool {
		return code.Matches(gopacket.CaptureInfo{CaptureLength: len(packet), Length: len(packet)}, packet)
	}
}

func trial(t testing.TB, f pcapfilter.Filter) pcapfilter.Trial {
	t.Helper()
	testns.Kernel(t)
	run, err := pcapfilter.NewTrial(f)
	require.NoError(t, err)
	t.Cleanup(run.Close)
	return run
}

func TestKernelMatchesWhatLibpcapMatches(t *testing.T) {
	for _, e := range expressions {
		t.Run(string(e.filter), func(t *testing.T) {
			want, run := reference(t, e.filter), trial(t, e.filter)
			for name, s := range stacks {
				whole := s.bytes(t)
				for _, n := range cuts(len(whole)) {
					packet := whole[:n:n]
					got, err := run.Match(packet)
					require.NoError(t, err)
					if got != want(packet) {
						t.Errorf("%s, %d of %d bytes: the kernel says %v, libpcap %v", name, n, len(whole), got, !got)
					}
				}
			}
			got, err := run.Match(stacks[e.some].bytes(t))
			require.NoError(t, err)
			assert.True(t, got, e.some)
			if e.other != "" {
				got, err = run.Match(stacks[e.other].bytes(t))
				require.NoError(t, err)
				assert.False(t, got, e.other)
			}
		})
	}
}

// cuts are the lengths that a packet of n bytes is cut to: everywhere in the
// headers, and whole.
func cuts(n int) []int {
	var at []int
	for i := 14; i < min(n, 90); i++ {
		at = append(at, i)
	}
	return append(at, n)
}

func TestKernelMatchesWhatLibpcapMatchesInDamagedPackets(t *testing.T) {
	rounds := 2000
	if testing.Short() {
		rounds = 100
	}
	for _, e := range expressions {
		want, run := reference(t, e.filter), trial(t, e.filter)
		random := rand.New(rand.NewPCG(1, 2))
		matched := 0
		for _, s := range stacks {
			whole := s.bytes(t)
			for range rounds / len(stacks) {
				packet := append([]byte(nil), whole[:14+random.IntN(len(whole)-13)]...)
				for range 1 + random.IntN(4) {
					packet[random.IntN(min(len(packet), 70))] = byte(random.Uint32())
				}
				got, err := run.Match(packet)
				require.NoError(t, err)
				if got != want(packet) {
					t.Fatalf("%s: the kernel says %v, libpcap %v of %x", e.filter, got, !got, packet)
				}
				if got {
					matched++
				}
			}
		}
		assert.NotZero(t, matched, e.filter)
	}
}

func TestOnlyTheFirstBufferIsSeen(t *testing.T) {
	testns.Need(t, "5.18 XDP programs for packets of several buffers")
	jumbo := stack{ethernet(typeIPv4), ipv4(protoUDP), udp(4000, 53), payload(8900)}.bytes(t)
	for f, want := range map[pcapfilter.Filter]bool{
		"udp port 53":       true,
		"len == 8942":       false, // the first buffer is shorter
		"len > 3000":        true,
		"udp[3000] == 0xb0": true, // 8 + 3000-8
		"udp[8000] == 0x38": false,
		"udp[8000] != 0":    false,
	} {
		got, err := f.Match(jumbo)
		require.NoError(t, err, f)
		assert.Equal(t, want, got, f)
	}
}

func TestBadExpressionsGetLibpcapsWords(t *testing.T) {
	for f, part := range map[pcapfilter.Filter]string{
		"udp prot 53":           "syntax error",
		"port 70000":            "65535",
		"host 300.1.1.1":        "",
		"tcp and arp":           "expression rejects all packets",
		"ip broadcast":          "netmask not known",
		"":                      `the Filter is empty; for every packet say "greater 0"`,
		" \t":                   "empty",
		"ip\x00":                "zero byte",
		"ether[0:3] == 1":       "data size must be 1, 2, or 4",
		"(udp":                  "syntax error",
		"ifname eth0":           "ifname",
		"vlan 5000":             "VLAN tag 5000 greater than maximum 4095",
		"ether host 1:2:3":      "thernet address 1:2:",
		"net 10.0.0.1/24":       "non-network bits set",
		"greater 99999999999 x": "",
	} {
		_, err := f.Match(make([]byte, 60))
		require.ErrorIs(t, err, syscall.EINVAL, string(f))
		assert.ErrorContains(t, err, part, string(f))
		_, err = pcapfilter.Attach("lo", pcapfilter.Options{Filter: f})
		if assert.ErrorIs(t, err, syscall.EINVAL, string(f)) {
			assert.ErrorContains(t, err, "pcapfilter: attach lo: ")
			assert.ErrorContains(t, err, part)
		}
	}
}

func TestExpressionsThatXDPCannotDo(t *testing.T) {
	for _, f := range []pcapfilter.Filter{"ip6 protochain 6", "ether[-4080] == 4"} {
		_, err := f.Match(make([]byte, 60))
		require.ErrorIs(t, err, errors.ErrUnsupported, f)
		assert.ErrorContains(t, err, fmt.Sprintf("%q", string(f)))
	}
}

func TestMatchNeedsAnEthernetHeader(t *testing.T) {
	testns.Kernel(t)
	_, err := pcapfilter.Filter("greater 0").Match(make([]byte, 13))
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "13 bytes")
	matched, err := pcapfilter.Filter("greater 0").Match(make([]byte, 14))
	require.NoError(t, err)
	assert.True(t, matched)
}

func TestMatchLeavesNothingOpen(t *testing.T) {
	testns.Kernel(t)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries)
	}
	before := 0
	for i := range 20 {
		_, err := pcapfilter.Filter("udp").Match(make([]byte, 60))
		require.NoError(t, err)
		_, err = pcapfilter.Filter("ip6 protochain 6").Match(make([]byte, 60))
		require.Error(t, err)
		if runtime.GC(); i == 0 {
			before = count() // the first has opened what stays
		}
	}
	assert.Equal(t, before, count())
}
