package netstack_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/link/qdisc/fifo"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/go-xsk/xsk/internal/testns"
)

// A contender sends 4 MiB to a kernel over a path that loses packets.
type contender struct {
	name     string
	dial     dialTo
	l        net.Listener
	timeouts func() uint64
	took     []float64 // ms
}

// contenders are three: ours is a Host, plain is gVisor's stack on its own endpoint for AF_PACKET as gVisor
// sets it up, with our buffers, and kernel is Linux with
// cubic.
func contenders(b *testing.B, path func() *middle) (all []*contender) {
	listen := func(p *testns.Peer) net.Listener {
		l, err := onPeer(p)("tcp", peer4+":0")
		require.NoError(b, err)
		b.Cleanup(func() { l.Close() })
		return l
	}
	h, p := path().toPeer(b)
	all = append(all, &contender{"ours", byHost(b, h), listen(p), h.Stack.Stats().TCP.Timeouts.Value, nil})

	near, left := testns.Veth{}.Make(b)
	p = testns.MakePeer(b)
	path().join(b, left, p.Near)
	s := plainGVisor(b, near)
	all = append(all, &contender{"plain", func(address string) (net.Conn, error) {
		a := netip.MustParseAddrPort(address)
		return gonet.DialContextTCP(context.Background(), s, tcpip.FullAddress{
			NIC: 1, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port(),
		}, ipv4.ProtocolNumber)
	}, listen(p), s.Stats().TCP.Timeouts.Value, nil})

	from := testns.MakePeer(b)
	require.NoError(b, from.Do(func() error {
		testns.IP(b, "address", "flush", "dev", "eth0")
		testns.IP(b, "address", "add", ours4+"/24", "dev", "eth0")
		return nil
	}))
	p = testns.MakePeer(b)
	path().join(b, from.Near, p.Near)
	return append(all, &contender{"kernel", func(address string) (conn net.Conn, err error) {
		err = from.Do(func() error {
			conn, err = (&net.Dialer{Control: cubic}).Dial("tcp", address)
			return err
		})
		return conn, err
	}, listen(p), func() uint64 { return 0 }, nil})
}

// cubic is for the kernel, which may have another one by default.
func cubic(_, _ string, c syscall.RawConn) (failed error) {
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic")
	})
	return errors.Join(err, failed)
}

// plainGVisor is gVisor's stack on an interface.
func plainGVisor(b *testing.B, ifname string) *stack.Stack {
	device, err := net.InterfaceByName(ifname)
	require.NoError(b, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
	require.NoError(b, err)
	require.NoError(b, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: device.Index}))
	link, err := fdbased.New(&fdbased.Options{
		FDs: []int{fd}, MTU: 1500, EthernetHeader: true, Address: tcpip.LinkAddress(device.HardwareAddr),
		PacketDispatchMode: fdbased.RecvMMsg,
	})
	require.NoError(b, err)
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	b.Cleanup(s.Close)
	sack := tcpip.TCPSACKEnabled(true)
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 16 << 20},
		&tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 16 << 20},
	} {
		require.Nil(b, s.SetTransportProtocolOption(tcp.ProtocolNumber, o))
	}
	require.Nil(b, s.CreateNICWithOptions(1, link, stack.NICOptions{QDisc: fifo.New(link, runtime.GOMAXPROCS(0), 1000)}))
	own := tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(netip.MustParseAddr(ours4).As4()), PrefixLen: 24}
	require.Nil(b, s.AddProtocolAddress(1, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: own}, stack.AddressProperties{}))
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}})
	return s
}

// BenchmarkLoss sends 4 MiB over paths that lose and delay packets each way, by three
// stacks in turns: the median of each in milliseconds, ratios (above 1 we are faster)
// and our timeouts. Ten times takes a minute: -bench Loss -benchtime 10x.
func BenchmarkLoss(b *testing.B) {
	testns.Kernel(b)
	for _, loss := range []float64{0, 0.01, 0.03} {
		for _, delay := range []time.Duration{0, 10 * time.Millisecond} {
			b.Run(fmt.Sprintf("loss=%g%%/delay=%v", 100*loss, delay), func(b *testing.B) {
				all := contenders(b, func() *middle { return &middle{loss: loss, delay: delay} })
				for b.Loop() {
					for _, c := range all {
						c.took = append(c.took, float64(send(b, c.dial, c.l, 4<<20))/float64(time.Millisecond))
					}
				}
				median := func(c *contender) float64 {
					slices.Sort(c.took)
					return c.took[len(c.took)/2]
				}
				for _, c := range all {
					b.ReportMetric(median(c), c.name+"-ms")
					b.ReportMetric(float64(c.timeouts()), c.name+"-timeouts")
				}
				b.ReportMetric(median(all[1])/median(all[0]), "plain/ours")
				b.ReportMetric(median(all[2])/median(all[0]), "kernel/ours")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
