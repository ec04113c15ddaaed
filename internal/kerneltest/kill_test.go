package kerneltest

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// A forwarder moves what one interface receives out of another, in one memory.
type forwarder struct {
	program *bpf.Program
	umem    *xsk.Umem
	in, out *xsk.Queue
}

func openForwarder(from, to string, m mode) (f *forwarder, err error) {
	f = new(forwarder)
	defer func() {
		if err != nil {
			_ = f.close()
		}
	}()
	if f.program, err = bpf.Attach(from, bpf.Options{Filter: bpf.Filter{All: true}, Mode: m.bpf}); err != nil {
		return f, err
	}
	if f.umem, err = xsk.NewUmem(&small); err != nil {
		return f, err
	}
	if f.in, err = xsk.Open(from, 0, &xsk.Config{Umem: f.umem, XSKMap: f.program}); err != nil {
		return f, err
	}
	f.out, err = xsk.Open(to, 0, &xsk.Config{Umem: f.umem, SocketConfig: xsk.SocketConfig{TxOnly: true}})
	return f, err
}

func (f *forwarder) run() error {
	frames := make([]xsk.Frame, 64)
	for {
		n, err := f.in.Receive(frames)
		if err != nil {
			return err
		}
		if _, err = f.out.Send(frames[:n]); err != nil {
			return err
		}
	}
}

func (f *forwarder) close() error {
	for _, q := range []*xsk.Queue{f.in, f.out} {
		if q != nil {
			if err := q.Close(); err != nil {
				return err
			}
		}
	}
	if f.umem != nil {
		if err := f.umem.Close(); err != nil {
			return err
		}
	}
	if f.program != nil {
		return f.program.Close()
	}
	return nil
}

func forwardForever(from, to string, m mode) error {
	f, err := openForwarder(from, to, m)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return f.run()
}

func TestQueueIsFreeAtOnceAfterItsProcessWasKilled(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		rounds := 50
		if testing.Short() {
			rounds = 5
		}
		first, from := testns.Veth{}.Make(t)
		to, last := testns.Veth{}.Make(t)
		source := open(t, first, 0, config(nil))
		sink := open(t, last, 0, config(attach(t, last, m)))
		frames := make([]xsk.Frame, 64)
		forwarded := 0
		for round := range rounds {
			victim := start(t, "forward", m, from, to)
			for end := time.Now().Add(rand.N(15 * time.Millisecond)); time.Now().Before(end); {
				send(t, source, round, 32, 60)
				n, err := sink.TryReceive(frames)
				require.NoError(t, err)
				forwarded += n
			}
			kill(t, victim)
			require.Empty(t, attached(t, from), "a killed process leaves no program")
			drain := time.Now().Add(5 * time.Millisecond)
			for time.Now().Before(drain) {
				n, err := sink.TryReceive(frames)
				require.NoError(t, err)
				forwarded += n
			}

			f, err := openForwarder(from, to, m)
			require.NoError(t, err)
			done := make(chan error)
			go func() { done <- f.run() }()
			send(t, source, 1000, 32, 60)
			require.NoError(t, sink.SetReadDeadline(time.Now().Add(patience)))
			for next := 1000; next < 1032; {
				n, err := sink.Receive(frames)
				require.NoError(t, err)
				for i := range frames[:n] {
					if k := number(frames[i].Data); k >= 1000 {
						require.Equal(t, next, k)
						next++
					}
				}
			}
			require.NoError(t, sink.SetReadDeadline(time.Time{}))
			conserved(t, f.in)
			require.NoError(t, f.in.Close())
			require.Error(t, <-done)
			require.NoError(t, f.close())
			require.Empty(t, attached(t, from))
		}
		assert.NotZero(t, forwarded, "the victims did forward")
		settled(t, 0, source, sink)
	})
}

func TestProgramThatLibxdpLeftBehindIsFoundAndRemoved(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		t.Setenv("LIBXDP_SKIP_DISPATCHER", "1") // it would stand before the program
		_, ifname := testns.Veth{}.Make(t)
		victim := start(t, "libxdp", m, ifname)
		err := bpf.RemoveStale(ifname)
		require.ErrorIs(t, err, syscall.EBUSY, "its socket lives")
		kill(t, victim)
		require.NotEmpty(t, attached(t, ifname), "libxdp's program outlives its process")

		_, err = bpf.Attach(ifname, bpf.Options{Filter: bpf.Filter{All: true}, Mode: m.bpf})
		require.ErrorIs(t, err, syscall.EBUSY)
		assert.ErrorContains(t, err, "xsk_def_prog")
		assert.ErrorContains(t, err, "bpf.RemoveStale")

		require.NoError(t, bpf.RemoveStale(ifname))
		require.Empty(t, attached(t, ifname))
		settled(t, 0, open(t, ifname, 0, config(attach(t, ifname, m))))
	})
}

func TestChildDoesNotKeepTheQueueBusy(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		nameA, nameB := testns.Veth{}.Make(t)
		program := attach(t, nameB, m)
		a := open(t, nameA, 0, config(nil))
		// Children are started before, while and after the queue is opened.
		stop, started := make(chan struct{}), make(chan []*exec.Cmd)
		go func() {
			var all []*exec.Cmd
			for {
				child := exec.Command("sleep", "60")
				if assert.NoError(t, child.Start()) {
					all = append(all, child)
				}
				select {
				case <-stop:
					started <- all
					return
				default:
				}
			}
		}()
		for round := range 10 {
			b := open(t, nameB, 0, config(program)) // a second later it would be EBUSY
			send(t, a, round, 1, 60)
			expect(t, b, round, 1)
			settled(t, 0, b)
			require.NoError(t, b.Close())
		}
		close(stop)
		children := <-started
		assert.NotEmpty(t, children)
		b := open(t, nameB, 0, config(program))
		settled(t, 0, a, b)
		for _, child := range children {
			assert.NoError(t, child.Process.Signal(syscall.Signal(0)), "still there")
			_ = child.Process.Kill()
			_ = child.Wait()
		}
	})
}
