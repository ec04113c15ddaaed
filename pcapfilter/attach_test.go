package pcapfilter_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/pcapfilter"
)

var _ xsk.XSKMap = (*pcapfilter.Program)(nil)

// patience is how long anything may take.
const patience = 10 * time.Second

func inBothModes(t *testing.T, f func(t *testing.T, mode bpf.Mode)) {
	for _, mode := range []bpf.Mode{bpf.Native, bpf.Generic} {
		t.Run(mode.String(), func(t *testing.T) { f(t, mode) })
	}
}

func attach(t *testing.T, ifname string, f pcapfilter.Filter, mode bpf.Mode) *pcapfilter.Program {
	t.Helper()
	p, err := pcapfilter.Attach(ifname, pcapfilter.Options{Filter: f, Mode: mode})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, p.WaitLink(ctx))
	return p
}

// attached is what ip(8) shows of the XDP program on an interface.
func attached(t *testing.T, ifname string) string {
	t.Helper()
	out, err := exec.Command("ip", "-details", "link", "show", "dev", ifname).CombinedOutput()
	require.NoError(t, err, string(out))
	_, after, found := strings.Cut(string(out), "prog/xdp")
	if !found {
		return ""
	}
	return strings.Fields(after)[0] + " " + strings.Join(strings.Fields(string(out)), " ")
}

// A tap is an AF_PACKET socket on an interface. What a program passes on, the
// tap sees; what it redirects, not.
type tap int

func openTap(t *testing.T, ifname string) tap {
	t.Helper()
	device, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	all := uint16(unix.ETH_P_ALL)<<8 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index}))
	limit := unix.NsecToTimeval(int64(patience))
	require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
	return tap(fd)
}

func (s tap) send(t *testing.T, packet []byte) {
	t.Helper()
	_, err := unix.Write(int(s), packet)
	require.NoError(t, err)
}

func (s tap) receive(t *testing.T) []byte {
	t.Helper()
	buffer := make([]byte, 65536)
	n, err := unix.Read(int(s), buffer)
	require.NoError(t, err)
	return buffer[:n]
}

// untagged is what a tap shows of a packet: the kernel takes a VLAN tag out
// before.
func untagged(packet []byte) []byte {
	if proto := [2]byte(packet[12:14]); proto == [2]byte{0x81, 0} || proto == [2]byte{0x88, 0xa8} {
		return slices.Concat(packet[:12], packet[16:])
	}
	return packet
}

func TestMatchedPacketsReachTheirSocketAndOthersTheKernel(t *testing.T) {
	const filter = "udp dst port 53 or arp or (vlan 42 and udp)"
	inBothModes(t, func(t *testing.T, mode bpf.Mode) {
		near, far := testns.Veth{}.Make(t)
		kernel, wire := openTap(t, near), openTap(t, far)
		p := attach(t, near, filter, mode)
		assert.Equal(t, mode, p.Mode())
		queue, err := xsk.Open(near, 0, &xsk.Config{XSKMap: p})
		require.NoError(t, err)
		defer queue.Close()
		require.NoError(t, queue.SetReadDeadline(time.Now().Add(patience)))

		want := reference(t, filter)
		frames := make([]xsk.Frame, 8)
		seen := map[bool]int{}
		for range 20 {
			for name, s := range stacks {
				packet := s.bytes(t)
				match := want(packet)
				seen[match]++
				wire.send(t, packet)
				if !match {
					require.Equal(t, untagged(packet), kernel.receive(t), "%s is the kernel's", name)
					continue
				}
				n, err := queue.Receive(frames)
				require.NoError(t, err, name)
				require.Equal(t, 1, n, name)
				require.Equal(t, packet, frames[0].Data, name)
			}
		}
		assert.Greater(t, seen[true], 100)
		assert.Greater(t, seen[false], 300)
	})
}

func TestPacketsOfAQueueWithoutSocketStayWithTheKernel(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode bpf.Mode) {
		near, far := testns.Veth{}.Make(t)
		kernel, wire := openTap(t, near), openTap(t, far)
		attach(t, near, "udp", mode)
		packet := stacks["udp"].bytes(t)
		wire.send(t, packet)
		assert.Equal(t, packet, kernel.receive(t))
	})
}

func TestAttachTellsTheMode(t *testing.T) {
	near, _ := testns.Veth{}.Make(t)
	for _, c := range []struct {
		ifname    string
		ask, want bpf.Mode
		shown     string
	}{
		{near, bpf.Auto, bpf.Native, " "},
		{near, bpf.Native, bpf.Native, " "},
		{near, bpf.Generic, bpf.Generic, "generic "},
		{"lo", bpf.Auto, bpf.Generic, "generic "},
	} {
		t.Run(c.ifname+" "+c.ask.String(), func(t *testing.T) {
			p, err := pcapfilter.Attach(c.ifname, pcapfilter.Options{Filter: "udp port 53", Mode: c.ask})
			require.NoError(t, err)
			assert.Equal(t, c.want, p.Mode())
			assert.Equal(t, fmt.Sprintf(`%s: %v, "udp port 53"`, c.ifname, c.want), p.String())
			assert.Contains(t, attached(t, c.ifname), "xsk_pcap")
			device, err := net.InterfaceByName(c.ifname)
			require.NoError(t, err)
			assert.Equal(t, device.Index, p.Ifindex())

			require.NoError(t, p.Close())
			require.NoError(t, p.Close(), "again")
			assert.Empty(t, attached(t, c.ifname))
			assert.Equal(t, bpf.Auto, p.Mode())
			assert.Equal(t, -1, p.FileDescriptor())
			assert.Equal(t, c.ifname+": closed", p.String())
			assert.ErrorIs(t, p.WaitLink(context.Background()), net.ErrClosed)
		})
	}
}

func TestAttachSaysWhatIsWrong(t *testing.T) {
	near, _ := testns.Veth{}.Make(t)
	attempt := func(ifname string, mode bpf.Mode) error {
		_, err := pcapfilter.Attach(ifname, pcapfilter.Options{Filter: "udp", Mode: mode})
		return err
	}
	require.ErrorIs(t, attempt("none0", bpf.Auto), syscall.ENODEV)
	assert.EqualError(t, attempt("none0", bpf.Auto), "pcapfilter: attach none0: no such device: no interface none0 in this network namespace")
	require.ErrorIs(t, attempt(near, 9), syscall.EINVAL)
	err := attempt("lo", bpf.Native)
	require.ErrorIs(t, err, syscall.EOPNOTSUPP)
	assert.ErrorContains(t, err, "bpf.Generic")

	attach(t, near, "udp", bpf.Generic)
	for _, mode := range []bpf.Mode{bpf.Auto, bpf.Native, bpf.Generic} {
		err = attempt(near, mode)
		require.ErrorIs(t, err, syscall.EBUSY)
		assert.ErrorContains(t, err, "nothing was replaced")
	}
	testns.IP(t, "tuntap", "add", "tun0", "mode", "tun")
	t.Cleanup(func() { testns.IP(t, "tuntap", "del", "tun0", "mode", "tun") })
	require.ErrorIs(t, attempt("tun0", bpf.Generic), syscall.ENOTSUP)
}

// Native mode only: without NAPI a veth says queue 0 of every packet.
func TestEachQueueGetsItsPackets(t *testing.T) {
	const n = 4
	near, far := testns.Veth{Queues: n}.Make(t)
	queues, err := xsk.OpenAll(near, &xsk.Config{XSKMap: attach(t, near, "udp", bpf.Native)})
	require.NoError(t, err)
	defer queues.Close()
	require.Len(t, queues, n)
	packet := stacks["udp"].bytes(t)
	frames := make([]xsk.Frame, 8)
	for i, q := range queues {
		// veth delivers to the queue that the packet was sent from.
		sender, err := xsk.Open(far, i, &xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
		require.NoError(t, err)
		defer sender.Close()
		_, err = sender.Alloc(frames[:1])
		require.NoError(t, err)
		frames[0].Data = append(frames[0].Data, packet...)
		_, err = sender.Send(frames[:1])
		require.NoError(t, err)
		require.NoError(t, q.SetReadDeadline(time.Now().Add(patience)))
		got, err := q.Receive(frames)
		require.NoError(t, err, "queue %d", i)
		require.Equal(t, 1, got)
		assert.Equal(t, packet, frames[0].Data)
	}
}

func TestPacketsOfSeveralBuffersMatch(t *testing.T) {
	testns.Need(t, "6.6 multi-buffer AF_XDP")
	near, far := testns.Veth{MTU: 9000}.Make(t)
	kernel, wire := openTap(t, near), openTap(t, far)
	queue, err := xsk.Open(near, 0, &xsk.Config{
		XSKMap:       attach(t, near, "udp port 53", bpf.Native),
		SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer},
	})
	require.NoError(t, err)
	defer queue.Close()
	require.NoError(t, queue.SetReadDeadline(time.Now().Add(patience)))
	frames := make([]xsk.Frame, 8)
	for port, matched := range map[layers.UDPPort]bool{53: true, 54: false} {
		packet := stack{ethernet(typeIPv4), ipv4(protoUDP), udp(4000, port), payload(8900)}.bytes(t)
		wire.send(t, packet)
		if !matched {
			require.Equal(t, packet, kernel.receive(t))
			continue
		}
		n, err := queue.Receive(frames)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		got := make([]byte, frames[0].Len())
		frames[0].CopyTo(got)
		require.Equal(t, packet, got)
		require.NotEmpty(t, frames[0].Frags)
	}
}

// TestGenericModeGetsNoFrags by what the expression sees: of a packet in several
// buffers a program for such packets would see the first.
func TestGenericModeGetsNoFrags(t *testing.T) {
	testns.Need(t, "6.9 generic multi-buffer")
	near, far := testns.Veth{MTU: 9000}.Make(t)
	queue, err := xsk.Open(near, 0, &xsk.Config{
		XSKMap:       attach(t, near, "len > 8900", bpf.Generic),
		SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer},
	})
	require.NoError(t, err)
	defer queue.Close()
	require.NoError(t, queue.SetReadDeadline(time.Now().Add(patience)))
	packet := stack{ethernet(typeIPv4), ipv4(protoUDP), udp(4000, 53), payload(8900)}.bytes(t)
	openTap(t, far).send(t, packet)
	frames := make([]xsk.Frame, 8)
	n, err := queue.Receive(frames)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	got := make([]byte, frames[0].Len())
	frames[0].CopyTo(got)
	require.Equal(t, packet, got)
}

// TestAutoThatEndsInGenericModeGetsNoFrags sends what is in several buffers through
// the loopback interface, which has no native mode.
func TestAutoThatEndsInGenericModeGetsNoFrags(t *testing.T) {
	testns.Need(t, "6.9 generic multi-buffer")
	p := attach(t, "lo", "len > 8900", bpf.Auto)
	require.Equal(t, bpf.Generic, p.Mode())
	queue, err := xsk.Open("lo", 0, &xsk.Config{XSKMap: p, SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer}})
	require.NoError(t, err)
	defer queue.Close()
	require.NoError(t, queue.SetReadDeadline(time.Now().Add(patience)))
	packet := stack{ethernet(typeIPv4), ipv4(protoUDP), udp(4000, 53), payload(8900)}.bytes(t)
	openTap(t, "lo").send(t, packet)
	frames := make([]xsk.Frame, 8)
	n, err := queue.Receive(frames)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	assert.Equal(t, len(packet), frames[0].Len())
}

func TestProgramOutlivesTheGarbageCollector(t *testing.T) {
	near, _ := testns.Veth{}.Make(t)
	_, err := pcapfilter.Attach(near, pcapfilter.Options{Filter: "udp"})
	require.NoError(t, err)
	for range 5 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond) // finalizers run beside
	}
	assert.Contains(t, attached(t, near), "xsk_pcap")
}

func TestWaitLinkWaitsForTheCarrier(t *testing.T) {
	near, far := testns.Veth{}.Make(t)
	p := attach(t, near, "udp", bpf.Native)
	testns.IP(t, "link", "set", far, "down")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := p.WaitLink(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "no carrier")
	done := make(chan error)
	go func() { done <- p.WaitLink(context.Background()) }()
	testns.IP(t, "link", "set", far, "up")
	require.NoError(t, <-done)
	testns.IP(t, "link", "del", near)
	require.ErrorIs(t, p.WaitLink(context.Background()), syscall.ENODEV)
}

// helperInterface makes the test binary a program that attaches and waits.
const helperInterface = "XSK_PCAPFILTER_TEST_HELPER"

// helperRefused has the helper do without AF_NETLINK.
const helperRefused = "XSK_PCAPFILTER_TEST_REFUSED"

func helper(ifname string) {
	if os.Getenv(helperRefused) != "" {
		if err := testns.RefuseSockets(unix.AF_NETLINK, unix.EAFNOSUPPORT); err != nil {
			fmt.Println(err)
		}
	}
	if _, err := pcapfilter.Attach(ifname, pcapfilter.Options{Filter: "udp port 53"}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("attached")
	select {}
}

func TestAttachNamesTheCapabilities(t *testing.T) {
	near, _ := testns.Veth{}.Make(t)
	self, err := os.Executable()
	require.NoError(t, err)
	for capabilities, lacks := range map[string]string{
		"+net_admin,+bpf,+perfmon": "",
		"+net_admin,+bpf":          "CAP_PERFMON; its AF_XDP sockets will need CAP_NET_RAW, too",
		"+net_admin,+perfmon":      "CAP_BPF;",
		"+bpf,+perfmon":            "CAP_NET_ADMIN;",
		"+net_raw,+ipc_lock,+kill": "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON\n",
		"+bpf,+net_raw,+ipc_lock":  "CAP_NET_ADMIN, CAP_PERFMON\n",
	} {
		cmd := exec.Command("setpriv", "--bounding-set", "-all,"+capabilities, "--inh-caps", "-all", self)
		cmd.Env = append(os.Environ(), helperInterface+"="+near)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if lacks == "" {
			assert.Equal(t, "attached\n", line, capabilities)
		} else {
			assert.Contains(t, line, "operation not permitted: the process lacks "+lacks, capabilities)
		}
		require.Eventually(t, func() bool { return attached(t, near) == "" }, patience, 10*time.Millisecond)
	}
}

func TestRefusedNetlinkIsNamed(t *testing.T) {
	testns.Kernel(t)
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), helperInterface+"=lo", helperRefused+"=1")
	output, err := command.CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(output), "RestrictAddressFamilies= must name AF_NETLINK")
}

func TestKilledProcessLeavesNothing(t *testing.T) {
	near, _ := testns.Veth{}.Make(t)
	victim := exec.Command("/proc/self/exe")
	victim.Env = append(os.Environ(), helperInterface+"="+near)
	out, err := victim.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, victim.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "attached\n", line)
	require.Contains(t, attached(t, near), "xsk_pcap")
	require.NoError(t, victim.Process.Kill())
	_ = victim.Wait()
	require.Eventually(t, func() bool { return attached(t, near) == "" }, patience, 10*time.Millisecond)
	attach(t, near, "udp", bpf.Native)
}
