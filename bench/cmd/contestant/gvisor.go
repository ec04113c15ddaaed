package main

import (
	"net"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/xdp"

	"github.com/go-xsk/xsk/bench/internal/turns"
	"github.com/go-xsk/xsk/bench/internal/wire"
)

// A gvisorWorker is gVisor's package xdp, used as its own programs use it: the
// umem locked for a burst, a system call for each kick, poll to wait.
type gvisorWorker struct {
	*options
	block  *xdp.ControlBlock
	number uint64
}

func openGVisor(o *options) (turns.Worker, error) {
	i, err := net.InterfaceByName(o.in)
	if err != nil {
		return nil, err
	}
	opts := xdp.Opts{
		NFrames: uint32(o.frames), FrameSize: uint32(o.frameSize), NDescriptors: uint32(o.ring),
		Bind: true, UseNeedWakeup: true,
	}
	if o.task == "echo" {
		// Reserve wants as many free frames, though an answer needs none, and
		// without any it waits for ever: give it some that nobody uses.
		opts.NFrames += uint32(o.ring)
	}
	block, err := xdp.New(uint32(i.Index), 0, opts)
	if err != nil {
		return nil, err
	}
	w := &gvisorWorker{options: o, block: block}
	if o.task == "tx" {
		block.UMEM.Lock()
		defer block.UMEM.Unlock()
		for i := range o.frames {
			w.flow.Make(block.UMEM.Get(unix.XDPDesc{Addr: uint64(i * o.frameSize), Len: uint32(o.size)}))
		}
		return w, nil
	}
	w.fill()
	xsks, err := ebpf.NewMapFromFD(int(mapIn))
	if err != nil {
		return nil, err
	}
	return w, xsks.Put(uint32(0), block.UMEM.SockFD())
}

func (w *gvisorWorker) Interrupt() {}

func (w *gvisorWorker) Work(t *turns.Turn) error {
	step := map[string]func(*turns.Turn) error{"tx": w.send, "rx": w.receive, "echo": w.echo}[w.task]
	for t.On() {
		if err := step(t); err != nil {
			return err
		}
	}
	return nil
}

func (w *gvisorWorker) fill() {
	w.block.UMEM.Lock()
	w.block.Fill.FillAll(&w.block.UMEM)
	w.block.UMEM.Unlock()
}

// reserve waits for n places in the TX ring. The umem is locked.
func (w *gvisorWorker) reserve(n uint32) (index uint32) {
	b := w.block
	for {
		b.Completion.FreeAll(&b.UMEM)
		if got, index := b.TX.Reserve(&b.UMEM, n); got == n {
			return index
		}
		b.TX.Notify() // copy mode takes 32 a kick
	}
}

func (w *gvisorWorker) send(t *turns.Turn) error {
	b := w.block
	b.UMEM.Lock()
	defer b.UMEM.Unlock()
	index := w.reserve(uint32(w.batch))
	for i := range uint32(w.batch) {
		d := unix.XDPDesc{Addr: b.UMEM.AllocFrame(), Len: uint32(w.size)}
		wire.Number(b.UMEM.Get(d), w.number)
		w.number++
		b.TX.Set(index+i, d)
	}
	b.TX.Notify()
	t.Packets += uint64(w.batch)
	return nil
}

func (w *gvisorWorker) receive(t *turns.Turn) error {
	b := w.block
	n, index := b.RX.Peek()
	if n == 0 {
		return w.wait()
	}
	b.UMEM.Lock()
	defer b.UMEM.Unlock()
	var last unix.XDPDesc
	for i := range n {
		last = b.RX.Get(index + i)
		b.UMEM.FreeFrame(last.Addr)
	}
	counted(t, int(n), b.UMEM.Get(last), w.size)
	b.RX.Release(n)
	b.Fill.FillAll(&b.UMEM)
	return nil
}

func (w *gvisorWorker) echo(t *turns.Turn) error {
	b := w.block
	n, index := b.RX.Peek()
	if n == 0 {
		return w.wait()
	}
	b.UMEM.Lock()
	defer b.UMEM.Unlock()
	// The RX ring gives all it has; the TX ring takes a burst at a time.
	for n > 0 {
		burst := min(n, uint32(w.batch))
		at := w.reserve(burst)
		var last unix.XDPDesc
		for i := range burst {
			last = b.RX.Get(index + i)
			wire.TurnAround(b.UMEM.Get(last))
			b.TX.Set(at+i, last)
		}
		counted(t, int(burst), b.UMEM.Get(last), w.size)
		b.RX.Release(burst)
		b.TX.Notify()
		b.Completion.FreeAll(&b.UMEM)
		b.Fill.FillAll(&b.UMEM)
		index, n = index+burst, n-burst
	}
	return nil
}

func (w *gvisorWorker) wait() error {
	if w.spin {
		return nil
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(w.block.UMEM.SockFD()), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	if err == unix.EINTR {
		return nil
	}
	return err
}
