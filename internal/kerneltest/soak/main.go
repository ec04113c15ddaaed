// Command soak forwards at full rate through two interfaces that share one
// Umem, and ends with every frame accounted for and every payload checked.
//
//	soak -t SECONDS FIRST FROM TO LAST
//
// FIRST and FROM are the ends of one veth pair, TO and LAST those of another.
// A sender floods FIRST, a forwarder carries what FROM receives out of TO in the
// same frames, and a receiver checks every byte at LAST. At random the forwarder
// keeps, frees and copies frames and hands them to workers, which send or free
// them later; what finds no room is dropped and counted.
package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

const (
	burst  = 64
	header = 14
	seqEnd = header + 8
)

// fill makes b a packet that says its number in every byte.
func fill(b []byte, number uint64) {
	copy(b, "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5")
	binary.BigEndian.PutUint64(b[header:], number)
	for i, x := seqEnd, number*0x9e3779b97f4a7c15|1; i < len(b); i++ {
		b[i] = byte(x >> (i % 8 * 8))
	}
}

// length is how long packet number is.
func length(number uint64) int { return 60 + int(number*2654435761>>7%1200) }

// intact reports whether b is a packet that fill made.
func intact(b []byte) bool {
	if len(b) < seqEnd {
		return false
	}
	number := binary.BigEndian.Uint64(b[header:])
	want := make([]byte, length(number))
	fill(want, number)
	return string(want) == string(b)
}

// A soak is the queues and what is known of the packets.
type soak struct {
	source, in, out, sink *xsk.Queue
	umem                  *xsk.Umem
	programs              []*bpf.Program

	stop      atomic.Bool
	forwarded atomic.Uint64 // packets that left by out
	dropped   atomic.Uint64 // that the forwarder or a worker freed
	received  uint64
	corrupt   uint64
	work      chan xsk.Frame
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("soak: ")
	seconds := flag.Int("t", 600, "seconds")
	mode := flag.String("m", "native", "generic or native")
	flag.Parse()
	if flag.NArg() != 4 || *seconds < 1 || *mode != "generic" && *mode != "native" {
		flag.Usage()
		os.Exit(2)
	}
	s, err := open(flag.Args(), map[string]bpf.Mode{"generic": bpf.Generic, "native": bpf.Native}[*mode])
	if err != nil {
		log.Fatal(err)
	}
	for _, q := range []*xsk.Queue{s.source, s.in, s.out, s.sink} {
		fmt.Println(q)
	}
	lost, err := s.run(time.Duration(*seconds) * time.Second)
	for _, q := range []*xsk.Queue{s.source, s.in, s.out, s.sink} {
		fmt.Printf("%v\n%v\n", q, q.Stats())
	}
	fmt.Printf("forwarded %d, freed on the way %d\n", s.forwarded.Load(), s.dropped.Load())
	if err != nil {
		log.Println(err)
	}
	if closeErr := s.close(); closeErr != nil {
		err = errors.Join(err, closeErr)
		log.Println(closeErr)
	}
	fmt.Printf("soak: seconds=%d packets=%d lost_frames=%d corrupt=%d\n", *seconds, s.received, lost, s.corrupt)
	if err != nil || lost != 0 || s.corrupt != 0 || s.received == 0 {
		os.Exit(1)
	}
}

func open(names []string, mode bpf.Mode) (*soak, error) {
	s := &soak{work: make(chan xsk.Frame, 256)}
	var err error
	if s.umem, err = xsk.NewUmem(&xsk.UmemConfig{Frames: 1024, FrameSize: 2048}); err != nil {
		return nil, err
	}
	for i, q := range []**xsk.Queue{&s.source, &s.in, &s.out, &s.sink} {
		program, err := bpf.Attach(names[i], bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
		if err != nil {
			return nil, err
		}
		s.programs = append(s.programs, program)
		c := xsk.Config{XSKMap: program, UmemConfig: xsk.UmemConfig{Frames: 4096, FrameSize: 2048}}
		if i == 1 || i == 2 {
			c.Umem, c.RxFrames = s.umem, 256
		}
		if *q, err = xsk.Open(names[i], 0, &c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *soak) close() error {
	var errs []error
	for _, q := range []*xsk.Queue{s.source, s.in, s.out, s.sink} {
		errs = append(errs, q.Close())
	}
	errs = append(errs, s.umem.Close())
	for _, p := range s.programs {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// run does the work and returns the number of frames that are nobody's.
func (s *soak) run(d time.Duration) (lost int, err error) {
	failures := make(chan error, 8)
	var sending, forwarding, working, receiving sync.WaitGroup
	start := func(group *sync.WaitGroup, f func() error) {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := f(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				failures <- err
			}
		}()
	}
	start(&sending, s.send)
	start(&forwarding, s.forward)
	for range 3 {
		start(&working, s.worker)
	}
	start(&receiving, s.receive)
	select {
	case err = <-failures:
	case <-time.After(d):
	}
	// From the sender to the receiver, each has time for what is on its way.
	finish := func(group *sync.WaitGroup, q *xsk.Queue) {
		err = errors.Join(err, q.SetDeadline(time.Now().Add(500*time.Millisecond)))
		group.Wait()
	}
	s.stop.Store(true)
	finish(&sending, s.source)
	finish(&forwarding, s.in)
	close(s.work)
	finish(&working, s.out)
	finish(&receiving, s.sink)
	for len(failures) > 0 {
		err = errors.Join(err, <-failures)
	}
	return s.account(), err
}

// send floods.
func (s *soak) send() error {
	frames := make([]xsk.Frame, burst)
	for number := uint64(0); !s.stop.Load(); {
		n, err := s.source.Alloc(frames)
		if err != nil {
			return err
		}
		for i := range frames[:n] {
			f := &frames[i]
			f.Data = f.Data[:length(number)]
			fill(f.Data, number)
			number++
		}
		sent, err := s.source.Send(frames[:n])
		if err != nil {
			xsk.Free(frames[sent:n])
			return err
		}
	}
	return nil
}

// forward sends what it receives in whole bursts, now with back-pressure, now
// dropping what finds no room, and does something else with some frames first.
func (s *soak) forward() error {
	frames := make([]xsk.Frame, burst)
	for {
		n, err := s.in.Receive(frames)
		if errors.Is(err, syscall.ENOBUFS) {
			time.Sleep(100 * time.Microsecond) // the workers have them all
			continue
		}
		if err != nil {
			return err
		}
		on := frames[:0]
		for i := range frames[:n] {
			f := &frames[i]
			switch rand.IntN(64) {
			case 0:
				f.Free()
				s.dropped.Add(1)
			case 1:
				s.dropped.Add(1) // goes back at the end of the loan
			case 2, 3, 4:
				f.Keep()
				s.work <- *f
			default:
				on = append(on, *f)
			}
		}
		var sent int
		if rand.IntN(2) == 0 {
			sent, err = s.out.Send(on)
		} else {
			sent, err = s.out.TrySend(on)
		}
		s.forwarded.Add(uint64(sent))
		s.dropped.Add(uint64(len(on) - sent))
		if err != nil {
			return err
		}
	}
}

// worker keeps frames for a while.
func (s *soak) worker() error {
	for f := range s.work {
		switch rand.IntN(8) {
		case 0:
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
			fallthrough
		case 1:
			f.Free()
			s.dropped.Add(1)
			continue
		case 2: // answers in a frame of its own
			one := make([]xsk.Frame, 1)
			if n, err := s.in.TryAlloc(one); err != nil {
				return err
			} else if n == 1 {
				one[0].Data = append(one[0].Data, f.Data...)
				f.Free()
				f = one[0]
			}
		}
		one := []xsk.Frame{f}
		n, err := s.out.Send(one)
		s.forwarded.Add(uint64(n))
		if n == 0 {
			xsk.Free(one)
			s.dropped.Add(1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// receive checks every byte.
func (s *soak) receive() error {
	frames := make([]xsk.Frame, burst)
	for {
		n, err := s.sink.Receive(frames)
		if err != nil {
			return err
		}
		for i := range frames[:n] {
			if !intact(frames[i].Data) {
				s.corrupt++
			}
		}
		s.received += uint64(n)
	}
}

// account waits until all is sent and counts the frames that are neither free
// nor with the kernel to receive into.
func (s *soak) account() (lost int) {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		lost = 0
		for _, q := range []*xsk.Queue{s.source, s.in, s.out, s.sink} {
			_, _ = q.TrySend(nil)
			_, _ = q.TryReceive(nil)
			f := q.Stats().Frames
			if q != s.out { // it shares in's
				lost += q.Umem().Frames() - f.Free - f.Rx
			}
		}
		if lost == 0 || time.Now().After(end) {
			return lost
		}
	}
}
