package main

import (
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) { testns.Main(m) }

// The fill ring holds 2048 frames: 3000 packets come through only if frames go
// back to it.
func TestUDPComesThroughTheProgramsOwnMap(t *testing.T) {
	const udpPackets, tcpPackets = 3000, 5
	a, b := testns.Veth{}.Make(t)
	device, err := net.InterfaceByName(b)
	require.NoError(t, err)
	wire, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(wire)
	require.NoError(t, unix.Bind(wire, &unix.SockaddrLinklayer{Ifindex: device.Index}))

	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	out := make(lines, 64)
	finished := make(chan error)
	go func() { finished <- run(ctx, out, options{device: a}) }()
	assert.Contains(t, <-out, a+" queue 0: ")
	for i := range udpPackets + tcpPackets {
		protocol := byte(unix.IPPROTO_UDP)
		if i >= udpPackets {
			protocol = unix.IPPROTO_TCP
		}
		_, err := unix.Write(wire, packet(protocol))
		require.NoError(t, err)
		if i%64 == 0 { // veth takes 256 at once
			time.Sleep(time.Millisecond)
		}
	}
	assert.Contains(t, <-out, " packets/s, ")
	stop()
	require.NoError(t, <-finished)
	close(out)
	var summary string
	for line := range out {
		summary += line
	}
	assert.Contains(t, summary, "3000 packets, 180000 bytes; 0 dropped, 0 more for a full ring\n")
	assert.Contains(t, summary, "the program saw 3000 UDP packets\n")
	assert.Contains(t, summary, "the program saw 5 TCP packets\n")
}

// lines takes what is printed, a line at a time.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// packet is 60 bytes: Ethernet, IPv4, zeros.
func packet(protocol byte) []byte {
	p := make([]byte, 60)
	binary.BigEndian.PutUint16(p[12:], unix.ETH_P_IP)
	p[14] = 0x45
	binary.BigEndian.PutUint16(p[16:], 46)
	p[23] = protocol
	return p
}
