package pcapfilter_test

import (
	"net"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/pcapfilter"
)

// pushTag gives all that leaves by an interface VLAN tag 42, beside the packet,
// as a VLAN interface on it does.
func pushTag(t *testing.T, ifname string) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, 0x0081), // in network byte order
			asm.Mov.Imm(asm.R3, 42),
			asm.FnSkbVlanPush.Call(),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() { program.Close() })
	device, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	egress, err := link.AttachTCX(link.TCXOptions{Program: program, Interface: device.Index, Attach: ebpf.AttachTCXEgress})
	require.NoError(t, err)
	t.Cleanup(func() { egress.Close() })
}

func TestTagBesideThePacketIsNotSeen(t *testing.T) {
	testns.Need(t, "6.6 tcx, to give packets a tag")
	inBothModes(t, func(t *testing.T, mode bpf.Mode) {
		near, far := testns.Veth{}.Make(t)
		pushTag(t, far)
		wire := openTap(t, far)
		packet := stacks["udp"].bytes(t)
		inside := slices.Concat(packet[:12], []byte{0x81, 0, 0, 42}, packet[12:])
		for _, c := range []struct {
			txvlan  string
			filter  pcapfilter.Filter
			arrives []byte
		}{
			{"on", "udp dst port 53", packet},
			{"off", "vlan 42 and udp dst port 53", inside},
		} {
			out, err := exec.Command("ethtool", "-K", far, "txvlan", c.txvlan).CombinedOutput()
			require.NoError(t, err, string(out))
			p := attach(t, near, c.filter, mode)
			queue, err := xsk.Open(near, 0, &xsk.Config{XSKMap: p})
			require.NoError(t, err)
			require.NoError(t, queue.SetReadDeadline(time.Now().Add(patience)))
			wire.send(t, packet)
			frames := make([]xsk.Frame, 1)
			_, err = queue.Receive(frames)
			require.NoError(t, err, "txvlan %s", c.txvlan)
			assert.Equal(t, c.arrives, frames[0].Data, "txvlan %s", c.txvlan)
			require.NoError(t, queue.Close())
			require.NoError(t, p.Close())
		}
	})
}
