package xsk

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A plainRing is a struct xsk_ring_prod with what follows it in a TX ring, in plain
// memory, and the words that it shares with whoever consumes, each on lines of its own.
type plainRing struct {
	cachedProducer, cachedConsumer, mask, size uint32
	producerAt, consumerAt, ringAt, flagsAt    uintptr
	_                                          [64]byte // kicks and drops
	_                                          [128]byte
	producer                                   atomic.Uint32
	_                                          [128]byte
	consumer                                   atomic.Uint32
	_                                          [128]byte
	flags                                      atomic.Uint32
	_                                          [128]byte
	entries                                    [64 * 16]byte
}

func newPlainRing(t *testing.T) (*plainRing, uintptr) {
	t.Helper()
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, unix.Munmap(page)) })
	r := (*plainRing)(unsafe.Pointer(unsafe.SliceData(page)))
	r.mask, r.size, r.cachedConsumer = 63, 64, 64
	r.producerAt, r.consumerAt = uintptr(unsafe.Pointer(&r.producer)), uintptr(unsafe.Pointer(&r.consumer))
	r.ringAt, r.flagsAt = uintptr(unsafe.Pointer(&r.entries)), uintptr(unsafe.Pointer(&r.flags))
	return r, uintptr(unsafe.Pointer(r))
}

// The kernel sets need-wakeup, then looks at the producer index once more, and sleeps
// if that is as it was; we store the index, and then look at need-wakeup. So one of us
// sees the other, or the ring sleeps with work in it.
//
// This asks the processor what it does with our store and our load, as they are
// compiled: a thread does at the same time what the kernel does, with the fence that
// it has there. It says nothing about the kernel, and in copy mode nothing depends on
// it. Without our fence every tenth round is lost on x86, where a load may overtake a
// store and nothing else may overtake anything.
func TestAWakeUpIsSeenByOneSideOrTheOther(t *testing.T) {
	if runtime.NumCPU() == 1 {
		t.Log("one processor does one thing after the other")
		return
	}
	fill, fillC := newPlainRing(t)
	tx, txC := newPlainRing(t)
	_, rxC := newPlainRing(t)
	_, completionC := newPlainRing(t)
	addr, desc := []Addr{0}, []Desc{{Len: 60}}
	done := make([]Addr, 1)
	for _, side := range []struct {
		name string
		ring *plainRing
		post func() burst // the descriptor is none: a kick answers EBADF
	}{
		{"receiving", fill, func() burst { return rxBurst(fillC, rxC, -1, addr, nil) }},
		{"waiting", fill, func() burst {
			b, _ := rxBurstWait(fillC, rxC, -1, addr, nil, 0, 0, false)
			return b
		}},
		{"sending", tx, func() burst { return txBurst(txC, completionC, -1, desc, done) }},
	} {
		t.Run(side.name, func(t *testing.T) {
			var round, answer atomic.Uint32
			side.ring.producer.Store(0)
			side.ring.cachedProducer, side.ring.cachedConsumer = 0, 64
			var saw atomic.Bool
			defer round.Store(1 << 31) // ends the other side
			go func() {
				runtime.LockOSThread()
				for last, spins := uint32(0), 0; ; {
					now := round.Load()
					if now == last {
						spins++
						pause(spins)
						continue
					}
					spins = 0
					if last = now; now == 1<<31 {
						return
					}
					before := now - 1
					side.ring.flags.Swap(1) // XDP_RING_NEED_WAKEUP; Store is no fence under the race detector
					saw.Store(side.ring.producer.Load() != before)
					answer.Store(now)
				}
			}()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			lost, kicked, wait, close := 0, 0, 0, 0
			start := time.Now()
			rounds := uint32(0)
			for ; close < 5000 && time.Since(start) < 2*time.Second; rounds++ {
				side.ring.flags.Store(0)
				side.ring.consumer.Store(rounds) // what was posted before is gone
				begun := time.Now()
				round.Store(rounds + 1)
				for range wait + int(rounds%16) { // so that both are there at once
					_ = answer.Load()
				}
				b := side.post()
				for spins := 1; answer.Load() != rounds+1; spins++ {
					pause(spins)
				}
				took := time.Since(begun)
				require.Equal(t, 1, b.in)
				we := b.err == unix.EBADF
				if !we && !saw.Load() {
					lost++
				}
				if took > 5*time.Microsecond {
					continue // one of us had no processor
				}
				if close++; we {
					kicked++
					wait = max(wait-1, 0) // we were late
				} else {
					wait++
				}
			}
			t.Logf("%d rounds, in %d both were there, in %d of these we kicked", rounds, close, kicked)
			assert.Zero(t, lost, "wake-ups that nobody saw")
		})
	}
}

// pause lets the other side run, if it has no processor.
func pause(spins int) {
	if spins%2000 == 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
}
