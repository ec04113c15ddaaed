package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) {
	if os.Getenv(helper) != "" {
		main()
		os.Exit(0)
	}
	testns.Main(m)
}

// patience is how long anything may take.
const patience = 20 * time.Second

// text is a writer that may be read at the same time.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *text) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// A dump is a run of xskdump.
type dump struct {
	out, log text
	cancel   context.CancelFunc
	done     chan error
}

func newConfig(ifname string, mode bpf.Mode) *config {
	return &config{Options: &cmdline.Options{
		Interface: ifname, NeedWakeup: true, Size: mostBytes, Batch: 64, Mode: mode,
	}}
}

func launch(t *testing.T, c *config) *dump {
	d := &dump{done: make(chan error, 1)}
	var ctx context.Context
	ctx, d.cancel = context.WithCancel(t.Context())
	go func() { d.done <- run(ctx, c, &d.out, &d.log) }()
	return d
}

func start(t *testing.T, c *config) *dump {
	t.Helper()
	d := launch(t, c)
	require.Eventually(t, func() bool {
		return strings.Contains(d.log.String(), "ready mode=") || len(d.done) > 0
	}, patience, time.Millisecond)
	require.Empty(t, d.done)
	require.Contains(t, d.log.String(), "packets that match no longer reach this host")
	return d
}

// end waits until it has ended by itself.
func (d *dump) end(t *testing.T) {
	t.Helper()
	defer d.cancel()
	select {
	case err := <-d.done:
		require.NoError(t, err)
	case <-time.After(patience):
		t.Fatal("it does not end: ", d.log.String())
	}
}

// datagram is an Ethernet frame with a UDP datagram of size bytes.
func datagram(t *testing.T, number, port, size int) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.IP{192, 0, 2, 2}}
	udp := &layers.UDP{SrcPort: 4000, DstPort: layers.UDPPort(port)}
	require.NoError(t, udp.SetNetworkLayerForChecksum(ip))
	payload := bytes.Repeat([]byte{byte(number)}, size)
	copy(payload, fmt.Sprintf("%06d", number))
	b := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload(payload)))
	return b.Bytes()
}

// transmit sends packets from one queue of an interface.
func transmit(t *testing.T, q *xsk.Queue, packets [][]byte) {
	t.Helper()
	require.NoError(t, q.SetWriteDeadline(time.Now().Add(patience)))
	for _, p := range packets {
		var frames [1]xsk.Frame
		_, err := q.Alloc(frames[:])
		require.NoError(t, err)
		frames[0].Data = append(frames[0].Data, p...)
		_, err = q.Send(frames[:])
		require.NoError(t, err)
	}
}

// sender opens queue n of an interface to send from.
func sender(t *testing.T, ifname string, n int) *xsk.Queue {
	t.Helper()
	q, err := xsk.Open(ifname, n, &xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, q.Close()) })
	return q
}

// A captured packet, as the file has it.
type captured struct {
	gopacket.CaptureInfo
	data string
}

// readBack reads a pcapng file.
func readBack(t *testing.T, in []byte) (packets []captured, r *pcapgo.NgReader) {
	t.Helper()
	options := pcapgo.NgReaderOptions{WantMixedLinkType: true}
	r, err := pcapgo.NewNgReader(bytes.NewReader(in), options)
	require.NoError(t, err)
	for {
		data, info, err := r.ReadPacketData()
		if err != nil {
			require.EqualError(t, err, "EOF")
			return packets, r
		}
		packets = append(packets, captured{info, string(data)})
	}
}

func TestFileHasWhatWasSent(t *testing.T) {
	const packets = 500
	for _, mode := range []bpf.Mode{bpf.Generic, bpf.Native} {
		for _, expression := range []string{"", "udp dst port 53"} {
			t.Run(fmt.Sprint(mode, " ", expression), func(t *testing.T) {
				near, far := testns.Veth{}.Make(t)
				c := newConfig(near, mode)
				c.file = filepath.Join(t.TempDir(), "test.pcapng")
				if c.expression = expression; expression == "" {
					c.Ports = []uint16{53}
				}
				c.Count = packets
				begin := time.Now()
				d := start(t, c)
				var sent [][]byte
				want := []string{}
				for i := range packets {
					p := datagram(t, i, 53, i*2%1450+6)
					want = append(want, string(p))
					sent = append(sent, p, datagram(t, i, 54, 20)) // and one for the kernel
				}
				transmit(t, sender(t, far, 0), sent)
				d.end(t)

				file, err := os.ReadFile(c.file)
				require.NoError(t, err)
				got, reader := readBack(t, file)
				require.Len(t, got, packets)
				last := begin
				for i, p := range got {
					require.Equal(t, want[i], p.data, "packet %d", i)
					require.Equal(t, len(want[i]), p.Length)
					require.False(t, p.Timestamp.Before(last), "packet %d: %v, %v", i, p.Timestamp, last)
					last = p.Timestamp
				}
				require.False(t, last.After(time.Now()))
				description, err := reader.Interface(0)
				require.NoError(t, err)
				assert.Equal(t, near, description.Name)
				assert.Contains(t, description.Description, "queue 0")
				assert.Equal(t, expression, strings.TrimPrefix(description.Filter, "\x00"))
				assert.EqualValues(t, packets, description.Statistics.PacketsReceived)
				assert.Zero(t, description.Statistics.PacketsDropped)
				assert.Contains(t, d.log.String(), fmt.Sprintf("xskdump: captured=%d bytes=", packets))
				assert.Contains(t, d.log.String(), "kernel-dropped=0")
				assert.Equal(t, expression == "", strings.Contains(d.log.String(), fmt.Sprintf("UDPPorts %d", packets)), d.log.String())
				assert.Contains(t, d.log.String(), "xskdump: "+near+" dropped=")
			})
		}
	}
}

func TestEveryQueueIsCaptured(t *testing.T) {
	const queues, each = 4, 100
	near, far := testns.Veth{Queues: queues}.Make(t)
	c := newConfig(near, bpf.Native)
	c.expression, c.file, c.Count = "udp", "-", queues*each
	d := start(t, c)
	want := map[string]int{}
	for q := range queues {
		var sent [][]byte
		for i := range each {
			sent = append(sent, datagram(t, q*each+i, 1000+q, 100))
			want[string(sent[i])] = q
		}
		transmit(t, sender(t, far, q), sent)
	}
	d.end(t)
	got, reader := readBack(t, []byte(d.out.String()))
	require.Len(t, got, queues*each)
	for _, p := range got {
		q, sent := want[p.data]
		require.True(t, sent)
		require.Equal(t, q, p.InterfaceIndex)
		delete(want, p.data)
	}
	assert.Empty(t, want)
	for q := range queues {
		description, err := reader.Interface(q)
		require.NoError(t, err)
		assert.Contains(t, description.Description, fmt.Sprint("queue ", q))
		assert.EqualValues(t, each, description.Statistics.PacketsReceived)
	}
}

// Who starts it on an interface that is down is told what it waits for.
func TestWaitingForTheLinkIsSaid(t *testing.T) {
	near, _ := testns.Veth{}.Make(t)
	testns.IP(t, "link", "set", near, "down")
	c := newConfig(near, bpf.Generic)
	c.expression = "udp"
	d := launch(t, c)
	says := func(what string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(d.log.String(), what) || len(d.done) > 0 }, patience, time.Millisecond)
		require.Contains(t, d.log.String(), what)
	}
	says("bpf: wait for the link of " + near + ": the interface is down: still waiting\n")
	testns.IP(t, "link", "set", near, "up")
	says("xskdump: ready mode=generic")
	d.cancel()
	require.NoError(t, <-d.done)
}

// write sends a packet by an AF_PACKET socket.
func write(t *testing.T, ifname string, packet []byte) {
	t.Helper()
	device, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: device.Index}))
	_, err = unix.Write(fd, packet)
	require.NoError(t, err)
}
