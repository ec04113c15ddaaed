// Package testbed makes the places where contestants work: veth pairs between
// the namespace that scripts/netns made for this process and its "peer", and
// programs on the peer's end that drop early what arrives.
package testbed

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bench/internal/wire"
)

// A Pair is a veth pair: Own is here, Peer in the namespace of that name.
type Pair struct {
	Own, Peer string
	Out       wire.Flow // of packets from here to the peer
	restore   []func() error
}

// Back is the flow of packets from the peer to here.
func (p *Pair) Back() wire.Flow {
	return wire.Flow{SrcMAC: p.Out.DstMAC, DstMAC: p.Out.SrcMAC, SrcIP: p.Out.DstIP, DstIP: p.Out.SrcIP}
}

var pairs int

// inPeer runs a command in the peer's namespace.
var inPeer = []string{"ip", "netns", "exec", "peer"}

// NewPair makes a pair with so many queues and that MTU on both ends.
func NewPair(queues, mtu int) (*Pair, error) {
	pairs++
	n := pairs
	p := &Pair{
		Own: fmt.Sprintf("own%d", n), Peer: fmt.Sprintf("peer%d", n),
		Out: wire.Flow{
			SrcMAC: net.HardwareAddr{2, 0, 10, byte(n >> 8), byte(n), 1}, DstMAC: net.HardwareAddr{2, 0, 10, byte(n >> 8), byte(n), 2},
			SrcIP: netip.AddrFrom4([4]byte{10, 128 + byte(n>>8), byte(n), 1}), DstIP: netip.AddrFrom4([4]byte{10, 128 + byte(n>>8), byte(n), 2}),
		},
	}
	q, m := strconv.Itoa(queues), strconv.Itoa(mtu)
	err := run("ip", "link", "add", p.Own, "mtu", m, "numtxqueues", q, "numrxqueues", q,
		"type", "veth", "peer", "name", p.Peer, "mtu", m, "numtxqueues", q, "numrxqueues", q, "netns", "peer")
	if err != nil {
		return nil, err
	}
	peer := p.Back()
	if err := errors.Join(furnish(nil, p.Own, &p.Out), furnish(inPeer, p.Peer, &peer)); err != nil {
		return nil, err
	}
	return p, nil
}

// furnish makes one end ready, which enter leads to: its flow is of the packets
// that it sends.
func furnish(enter []string, name string, f *wire.Flow) error {
	err := run(append(enter, "ethtool", "-K", name, "tx", "off")...) // nobody would finish the checksums
	if err != nil {
		return err
	}
	batch := fmt.Sprintf("link set %s address %v\naddress add %v/24 dev %s\nlink set %s up\n"+
		"neighbour replace %v lladdr %v dev %s nud permanent\n",
		name, f.SrcMAC, f.SrcIP, name, name, f.DstIP, f.DstMAC, name)
	return runWith(batch, append(enter, "ip", "-batch", "-")...)
}

// DropOwn drops what comes to this end, after packet sockets have seen it.
func (p *Pair) DropOwn() error { return drop(nil, p.Own) }

// DropPeers does so at the other end.
func (p *Pair) DropPeers() error { return drop(inPeer, p.Peer) }

func drop(enter []string, name string) error {
	if err := run(append(enter, "tc", "qdisc", "add", "dev", name, "clsact")...); err != nil {
		return err
	}
	return run(append(enter, "tc", "filter", "add", "dev", name, "ingress", "bpf", "direct-action", "bytecode", "1,6 0 0 2")...)
}

// TakeAddresses takes the addresses of both ends from the kernel: somebody else
// is to have them.
func (p *Pair) TakeAddresses() error {
	return p.both(func(name string) []string { return []string{"ip", "address", "flush", "dev", name} })
}

// Offloads says whether the kernel may leave checksums, cutting and joining to
// an end that does them late or never.
func (p *Pair) Offloads(on bool) error {
	state := "off"
	if on {
		state = "on"
	}
	return p.both(func(name string) []string {
		return []string{"ethtool", "-K", name, "tx", state, "rx", state, "tso", state, "gso", state, "gro", state}
	})
}

// both runs a command at each end, whose name it takes.
func (p *Pair) both(command func(name string) []string) error {
	return errors.Join(run(command(p.Own)...), run(append(inPeer, command(p.Peer)...)...))
}

// Defer lets the driver's poller gather packets for a while before it looks
// again, on both ends, until Close.
func (p *Pair) Defer() error {
	for _, setting := range []struct{ name, value string }{{"napi_defer_hard_irqs", "2"}, {"gro_flush_timeout", "200000"}} {
		for _, end := range []struct {
			name string
			do   func(func() error) error
		}{{p.Own, here}, {p.Peer, InPeer}} {
			path := filepath.Join("/sys/class/net", end.name, setting.name)
			var before []byte
			err := end.do(func() (err error) {
				if before, err = os.ReadFile(path); err != nil {
					return err
				}
				return os.WriteFile(path, []byte(setting.value), 0)
			})
			if err != nil {
				return err
			}
			p.restore = append(p.restore, func() error {
				return end.do(func() error { return os.WriteFile(path, before, 0) })
			})
		}
	}
	return nil
}

// Close puts back what was set, and removes the pair.
func (p *Pair) Close() error {
	for _, restore := range p.restore {
		if err := restore(); err != nil {
			return err
		}
	}
	return run("ip", "link", "del", p.Own)
}

func here(f func() error) error { return f() }

// InPeer runs f on a thread in the peer's namespace, with a /sys that shows it.
// The thread ends with f.
func InPeer(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- func() error {
			fd, err := unix.Open("/run/netns/peer", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("the peer's namespace: %w; run it by scripts/bench", err)
			}
			defer unix.Close(fd)
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter the peer's namespace: %w", err)
			}
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return fmt.Errorf("unshare mounts: %w", err)
			}
			if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return fmt.Errorf("private mounts: %w", err)
			}
			if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
				return fmt.Errorf("mount /sys: %w", err)
			}
			return f()
		}()
	}()
	return <-done
}

func run(words ...string) error { return runWith("", words...) }

// runWith gives the command something to read.
func runWith(input string, words ...string) error {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
