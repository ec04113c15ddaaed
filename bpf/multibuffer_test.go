package bpf_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// TestGenericModeGetsNoFrags is about which program the kernel has: in generic mode
// one for packets of several buffers is loaded if it is asked for, and only then, by
// Update too.
func TestGenericModeGetsNoFrags(t *testing.T) {
	testns.Need(t, "5.18 XDP programs for packets of several buffers")
	veth, _ := testns.Veth{}.Make(t)
	const frags, single = "xsk_redirect", "xsk_redirect_1b"
	for _, c := range []struct {
		ifname string
		mode   bpf.Mode
		multi  bool
		want   bpf.Mode
		name   string
	}{
		{veth, bpf.Auto, false, bpf.Native, frags},
		{veth, bpf.Native, false, bpf.Native, frags},
		{veth, bpf.Native, true, bpf.Native, frags},
		{veth, bpf.Generic, false, bpf.Generic, single},
		{"lo", bpf.Auto, false, bpf.Generic, single},
		{"lo", bpf.Generic, false, bpf.Generic, single},
		{veth, bpf.Generic, true, bpf.Generic, frags},
		{"lo", bpf.Auto, true, bpf.Generic, frags},
	} {
		t.Run(fmt.Sprintf("%s %v %v", c.ifname, c.mode, c.multi), func(t *testing.T) {
			if c.multi && c.want == bpf.Generic {
				testns.NeedGenericFrags(t)
			}
			o := udpPorts(53)
			o.Mode, o.MultiBuffer = c.mode, c.multi
			p := attach(t, c.ifname, o)
			assert.Equal(t, c.want, p.Mode())
			for range 2 {
				name, err := bpf.AttachedName(c.ifname)
				require.NoError(t, err)
				require.Equal(t, c.name, name)
				require.NoError(t, p.Update(bpf.Filter{UDPPorts: []uint16{54}}))
			}
		})
	}
}

// TestGenericQueueReceivesPacketsOfSeveralBuffers without that program: the kernel
// makes one buffer of each, and the socket spreads it over frames.
func TestGenericQueueReceivesPacketsOfSeveralBuffers(t *testing.T) {
	testns.Need(t, "6.9 generic multi-buffer")
	for _, multi := range []bool{false, true} {
		t.Run(fmt.Sprint("MultiBuffer ", multi), func(t *testing.T) {
			if multi {
				testns.NeedGenericFrags(t)
			}
			a, b := testns.Veth{MTU: 65535}.Make(t)
			p := attach(t, a, bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{53}}, Mode: bpf.Generic, MultiBuffer: multi})
			q, err := xsk.Open(a, 0, &xsk.Config{XSKMap: p, SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer}})
			require.NoError(t, err)
			defer q.Close()
			wire := openTap(t, b)
			for _, size := range []int{100, 4000, 9000, 20000, 60000} {
				packet := ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(53, string(bytes.Repeat([]byte("large"), size/5)))))
				wire.send(t, packet)
				assert.Equal(t, packet, receiveWhole(t, q), "%d bytes", size)
			}
		})
	}
}

// TestGenericQueueReceivesUnsegmentedPackets is about what a local sender without
// rights can make at any MTU: a packet that is to be cut by the NIC, of many parts.
func TestGenericQueueReceivesUnsegmentedPackets(t *testing.T) {
	testns.Need(t, "6.9 generic multi-buffer")
	peer := testns.MakePeer(t)
	p := attach(t, peer.Near, bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{53}}, Mode: bpf.Generic})
	q, err := xsk.Open(peer.Near, 0, &xsk.Config{XSKMap: p, SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer}})
	require.NoError(t, err)
	defer q.Close()
	payload := bytes.Repeat([]byte("segments"), 5000)
	require.NoError(t, peer.Do(func() error {
		out, err := exec.Command("ethtool", "-K", "eth0", "tx", "on", "tx-udp-segmentation", "on").CombinedOutput()
		if err != nil {
			return fmt.Errorf("ethtool: %w: %s", err, out)
		}
		c, err := net.Dial("udp", "192.0.2.1:53")
		if err != nil {
			return err
		}
		defer c.Close()
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		var refused error
		err = raw.Control(func(fd uintptr) {
			refused = unix.SetsockoptInt(int(fd), syscall.IPPROTO_UDP, unix.UDP_SEGMENT, 1000)
		})
		if err = errors.Join(err, refused); err != nil {
			return err
		}
		_, err = c.Write(payload)
		return err
	}))
	assert.Equal(t, payload, receiveWhole(t, q)[42:])
}

// receiveWhole returns the next packet, with its fragments.
func receiveWhole(t *testing.T, q *xsk.Queue) []byte {
	t.Helper()
	require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
	frames := make([]xsk.Frame, 1)
	n, err := q.Receive(frames)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	packet := make([]byte, frames[0].Len())
	require.Equal(t, len(packet), frames[0].CopyTo(packet))
	return packet
}
