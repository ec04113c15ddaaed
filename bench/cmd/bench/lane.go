package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bench/internal/testbed"
	"github.com/go-xsk/xsk/bench/internal/turns"
	"github.com/go-xsk/xsk/bench/internal/wire"
	"github.com/go-xsk/xsk/bpf"
)

// A contestant is who does the work, and how.
type contestant struct {
	name   string // in tables
	as     string // rings, queue, gvisor; sample, tactics, packet, udp; a stack of stacks.go
	flags  []string
	defers bool // NAPI deferral on its interfaces
	plain  bool // the kernel, without offloads
}

func (c contestant) inC() bool {
	return c.as == "sample" || c.as == "tactics" || c.as == "packet" || c.as == "udp"
}

func (c contestant) xdp() bool { return c.as != "packet" && c.as != "udp" }

// A task is the work of all contestants of a comparison.
type task struct {
	do     string // tx, rx, echo, forward, ping; stream, reply
	native bool
	size   int
	flags  []string // of every contestant
	queues int      // of the interface; 0: 1
	spread int      // queues that packets come on; 0: 1
	rate   int      // packets a second that are sent to it; 0: as many as there can be
}

// A lane is one contestant at work on a veth pair of its own, two to forward.
// All lanes of a comparison are there all the time and have turns: what the
// machine does meanwhile meets all.
type lane struct {
	contestant
	task    task
	in, out *testbed.Pair
	sink    *testbed.Sink
	program *bpf.Program
	worker  *process
	partner *process // sends to it, or pings it
	undo    []func() error
}

// A measure is what a turn gave. NaN is what it does not tell.
type measure struct {
	PPS          float64 // packets a second that arrived
	User, System float64 // ns of processor time a packet
	PerCPU       float64 // packets for a second of processor time
	Lost         float64 // of those sent, 0 to 1
	Allocs       float64 // in the turn
	RSS          float64 // bytes, the most so far
	P50, P99     float64 // of round trips, us
	Gbps         float64 // of TCP
	PerGbit      float64 // seconds of processor time, of client and server
	Client       float64 // the same, of one
	Server       float64 // and of the other
	Machine      float64 // and of all there is
	Retransmits  float64 // in the turn
	Drops        float64
	Extra        turns.Result `json:"-"`
}

var (
	errWrong   = errors.New("WRONG RESULT")
	errNothing = fmt.Errorf("%w: nothing arrived", errWrong)
)

func openLane(c contestant, t task) (*lane, error) {
	l := &lane{contestant: c, task: t}
	if err := l.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s, %s: %w", t.do, c.name, err), l.close())
	}
	return l, nil
}

func (l *lane) open() (err error) {
	if l.task.talks() {
		return l.openTalk()
	}
	mtu := max(1500, l.task.size-14)
	if l.in, err = l.pair(max(l.task.queues, 1), mtu); err != nil {
		return err
	}
	sinkAt := l.in
	if l.task.do == "forward" {
		if l.out, err = l.pair(1, mtu); err != nil {
			return err
		}
		sinkAt = l.out
	}
	if l.defers {
		if err := l.in.Defer(); err != nil {
			return err
		}
	}
	if l.task.do == "tx" || l.task.do == "echo" || l.task.do == "forward" {
		if l.sink, err = testbed.NewSink(sinkAt, l.task.native); err != nil {
			return err
		}
		l.undo = append(l.undo, l.sink.Close)
	}
	if l.as == "packet" && l.task.do != "tx" {
		if err := l.in.DropOwn(); err != nil {
			return err
		}
	}
	files, err := l.attach()
	if err != nil {
		return err
	}
	program := "contestant"
	if l.inC() {
		program = "contestant.c"
	}
	do := l.task.do
	if do == "ping" {
		do = "echo"
	}
	words := []string{binary(program), "-as", l.as, "-do", do, "-d", l.in.Own, "-size", strconv.Itoa(l.task.size)}
	words = append(words, flowFlags(l.in.Out)...)
	if l.out != nil {
		words = append(words, "-out", l.out.Own)
	}
	words = append(append(words, l.task.flags...), l.flags...)
	if l.worker, err = startProcess(l.name, false, l.processors(), files, words...); err != nil {
		return err
	}
	return l.openPartner()
}

func (l *lane) pair(queues, mtu int) (*testbed.Pair, error) {
	p, err := testbed.NewPair(queues, mtu)
	if err == nil {
		l.undo = append(l.undo, p.Close)
	}
	return p, err
}

// attach puts package bpf's program on the interface; its XSKMAP goes to the
// contestant.
func (l *lane) attach() ([]*os.File, error) {
	if !l.xdp() {
		return nil, nil
	}
	mode := bpf.Generic
	if l.task.native {
		mode = bpf.Native
	}
	var err error
	l.program, err = bpf.Attach(l.in.Own, bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{wire.Port}}, Mode: mode})
	if err != nil {
		return nil, err
	}
	l.undo = append(l.undo, l.program.Close)
	fd, err := unix.FcntlInt(uintptr(l.program.FileDescriptor()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	xsks := os.NewFile(uintptr(fd), "XSKMAP")
	l.undo = append(l.undo, xsks.Close)
	return []*os.File{xsks}, nil
}

// openPartner starts the sender, the same for all.
func (l *lane) openPartner() (err error) {
	if l.task.do == "tx" {
		return nil
	}
	words := append(flowFlags(l.in.Back()), "-d", l.in.Peer, "-size", strconv.Itoa(l.task.size))
	switch {
	case l.task.do == "ping":
		words = append([]string{binary("contestant.c"), "-as", "udp", "-do", "ping"}, words...)
	case l.task.size > 4096-256:
		words = append([]string{binary("contestant"), "-as", "rings", "-do", "tx"}, words...)
	default:
		words = append([]string{binary("contestant.c"), "-as", "tactics", "-do", "tx", "-rate", strconv.Itoa(l.task.rate),
			"-queues", strconv.Itoa(max(l.task.spread, 1))}, words...)
	}
	l.partner, err = startProcess("the partner of "+l.name, true, partnerCPU, nil, words...)
	return err
}

func (l *lane) close() error {
	for _, p := range []*process{l.worker, l.partner} {
		if p != nil {
			p.close()
		}
	}
	var errs []error
	for i := len(l.undo) - 1; i >= 0; i-- {
		errs = append(errs, l.undo[i]())
	}
	return errors.Join(errs...)
}

// settle is how long the last packets may be on their way.
const settle = 30 * time.Millisecond

// turn lets the contestant work; during, if any, is called meanwhile.
func (l *lane) turn(length time.Duration, during func() error) (measure, error) {
	m, err := l.work(length, during)
	if errors.Is(err, errNothing) && during == nil { // is the machine busy, or is it broken?
		m, err = l.work(10*time.Second, nil)
	}
	if err != nil {
		err = fmt.Errorf("%s, %s: %w", l.task.do, l.name, err)
	}
	return m, err
}

func (l *lane) work(length time.Duration, during func() error) (m measure, err error) {
	if l.task.talks() {
		return l.talk(length, during)
	}
	var before, after, wrongBefore, wrong uint64
	if l.sink != nil {
		if before, wrongBefore, err = l.sink.Count(); err != nil {
			return m, err
		}
	}
	if err := l.worker.start(); err != nil {
		return m, err
	}
	var sent turns.Result
	if l.partner != nil {
		if err := l.partner.start(); err != nil {
			return m, err
		}
	}
	if during != nil {
		err = during()
	} else {
		time.Sleep(length)
	}
	if err != nil {
		return m, err
	}
	if l.partner != nil {
		if sent, err = l.partner.stop(); err != nil {
			return m, err
		}
		time.Sleep(settle)
	}
	did, err := l.worker.stop()
	if err != nil {
		return m, err
	}
	if l.partner == nil {
		sent = did
		time.Sleep(settle)
	}
	arrived := did["packets"]
	if l.sink != nil {
		if after, wrong, err = l.sink.Count(); err != nil {
			return m, err
		}
		arrived = float64(after - before)
	}
	if arrived == 0 || l.task.do == "ping" && sent["packets"] == 0 {
		return m, errNothing
	}
	if bad := did["bad"] + sent["bad"] + float64(wrong-wrongBefore); bad > 0 {
		return m, fmt.Errorf("%w: %.0f of %.0f packets are not what was sent", errWrong, bad, arrived)
	}
	// A packet that is on its way when the turn ends is no one's fault.
	m = measure{
		PPS: arrived / sent["seconds"], User: did["user"] * 1e9 / arrived, System: did["system"] * 1e9 / arrived,
		PerCPU: arrived / (did["user"] + did["system"]), Lost: max(0, 1-arrived/sent["packets"]),
		Allocs: did["allocs"], RSS: did["rss"], P50: sent["p50"], P99: sent["p99"], Extra: did,
	}
	return m, nil
}

func flowFlags(f wire.Flow) []string {
	return []string{"-smac", f.SrcMAC.String(), "-dmac", f.DstMAC.String(), "-sip", f.SrcIP.String(), "-dip", f.DstIP.String()}
}

func binary(name string) string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return filepath.Join(filepath.Dir(self), name)
}

// pinned keeps all contestants off the partner's processor.
var pinned bool

const partnerCPU = "1"

// processors is where the contestant may run: anywhere, for Go's runtime has
// threads of its own that a single one would make wait; but one that spins for
// its answer must not be in the way of whoever asks.
func (l *lane) processors() string {
	if n := runtime.NumCPU(); n > 1 && (pinned || l.task.do == "ping") {
		return strings.TrimSuffix(fmt.Sprintf("0,2-%d", n-1), ",2-1")
	}
	return ""
}
