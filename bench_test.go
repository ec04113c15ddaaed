package xsk_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/ringbench"
)

// The rings of these benchmarks lie in plain memory and the kernel is two
// stores (package ringbench): they measure what the program's side of a ring
// costs, and need no privilege. What a program then does with each packet is
// left out. It is the same however the burst came, and the place of its loop in
// the binary alone moves it by 0.5 ns a packet.

var burstSizes = []int{1, 8, 16, 64, 256}

// A program moves packets through the rings of one socket.
type program struct {
	rings  *ringbench.Rings
	socket *xsk.Socket
	addrs  []xsk.Addr
	descs  []xsk.Desc

	// The same through a Queue: rings and a socket of its own, and one for the
	// other side, which posts the same frames.
	queue      *xsk.Queue
	queueRings *ringbench.Rings
	frames     []xsk.Frame
	byHand     *xsk.Socket
	handRings  *ringbench.Rings
	back       []xsk.Addr

	// And the other way.
	sendQueue *xsk.Queue
	sendRings *ringbench.Rings
	stack     []xsk.Addr // frames to send from, last in, first out
}

func newProgram(tb testing.TB) *program {
	const frames = 2048
	r, queueRings, handRings := ringbench.New(xsk.DefaultRingSize), ringbench.New(frames), ringbench.New(frames)
	tb.Cleanup(r.Free)
	tb.Cleanup(queueRings.Free)
	tb.Cleanup(handRings.Free)
	sendRings := ringbench.New(frames)
	tb.Cleanup(sendRings.Free)
	stack := make([]xsk.Addr, frames)
	for i := range stack {
		stack[i] = xsk.Addr(i * 2048)
	}
	byHand := xsk.NewPlainSocket(handRings.Fill, handRings.Completion, handRings.Rx, handRings.Tx)
	for i := range frames / 2 {
		byHand.Fill.Produce([]xsk.Addr{xsk.Addr(i * 2048)})
	}
	return &program{
		queue: xsk.NewPlainQueue(xsk.NewPlainSocket(queueRings.Fill, queueRings.Completion,
			queueRings.Rx, queueRings.Tx), frames),
		queueRings: queueRings,
		frames:     make([]xsk.Frame, slices.Max(burstSizes)),
		byHand:     byHand,
		handRings:  handRings,
		sendQueue: xsk.NewPlainQueue(xsk.NewPlainSocket(sendRings.Fill, sendRings.Completion,
			sendRings.Rx, sendRings.Tx), frames),
		sendRings: sendRings,
		stack:     stack,
		rings:     r,
		socket:    xsk.NewPlainSocket(r.Fill, r.Completion, r.Rx, r.Tx),
		addrs:     make([]xsk.Addr, slices.Max(burstSizes)),
		descs:     make([]xsk.Desc, slices.Max(burstSizes)),
	}
}

// Each way to receive or send moves a number of bursts of n packets and returns
// how many packets went both ways.

func (p *program) rxBurst(bursts, n int) (packets int) {
	received := n
	for range bursts {
		p.rings.Receive(n)
		_, received, _ = p.socket.RxBurst(p.addrs[:received], p.descs[:n])
		packets += received
	}
	return packets
}

func (p *program) rxRings(bursts, n int) (packets int) {
	received := n
	for range bursts {
		p.rings.Receive(n)
		p.socket.Fill.Produce(p.addrs[:received])
		received = p.socket.Rx.Consume(p.descs[:n])
		packets += received
	}
	return packets
}

func (p *program) rxC(bursts, n int) int { return p.rings.ReceiveInC(bursts, n) }

func (p *program) txBurst(bursts, n int) (packets int) {
	for range bursts {
		p.rings.Send(n)
		queued, completed, _ := p.socket.TxBurst(p.descs[:n], p.addrs[:n])
		packets += min(queued, completed)
	}
	return packets
}

func (p *program) txRings(bursts, n int) (packets int) {
	for range bursts {
		p.rings.Send(n)
		completed := p.socket.Completion.Consume(p.addrs[:n])
		packets += min(completed, p.socket.Tx.Produce(p.descs[:n]))
	}
	return packets
}

func (p *program) txC(bursts, n int) int { return p.rings.SendInC(bursts, n) }

// rxByHand receives by RxBurst and turns each packet's address back into its
// frame's, as a program without a Queue must.
func (p *program) rxByHand(bursts, n int) (packets int) {
	for range bursts {
		p.handRings.Deliver(n)
		_, received, _ := p.byHand.RxBurst(p.back, p.descs[:n])
		p.back = p.back[:0]
		for i := range p.descs[:received] {
			p.back = append(p.back, p.descs[i].Addr&^2047)
		}
		packets += received
	}
	return packets
}

func (p *program) rxQueue(bursts, n int) (packets int) {
	for range bursts {
		p.queueRings.Deliver(n)
		received, _ := p.queue.TryReceive(p.frames[:n])
		packets += received
	}
	return packets
}

// txByHand sends by TxBurst from a stack of frames, as a program without a Queue
// must.
func (p *program) txByHand(bursts, n int) (packets int) {
	for range bursts {
		p.handRings.Transmit(n)
		top := len(p.stack) - n
		for i, addr := range p.stack[top:] {
			p.descs[i] = xsk.Desc{Addr: addr, Len: 60}
		}
		queued, completed, _ := p.byHand.TxBurst(p.descs[:n], p.stack[top:cap(p.stack)])
		p.stack = p.stack[:top+completed]
		packets += queued
	}
	return packets
}

func (p *program) txQueue(bursts, n int) (packets int) {
	for range bursts {
		p.sendRings.Transmit(n)
		got, _ := p.sendQueue.TryAlloc(p.frames[:n])
		for i := range p.frames[:got] {
			f := &p.frames[i]
			f.Data = f.Data[:60]
		}
		sent, _ := p.sendQueue.TrySend(p.frames[:got])
		packets += sent
	}
	return packets
}

// cross is what remains of a way when its rings are taken away.
func (p *program) cross(bursts, n int) int {
	for range bursts {
		ringbench.Cross()
	}
	return bursts * n
}

// A way is one way to move packets in one direction.
type way struct {
	name string
	move func(p *program, bursts, n int) int
}

// The others of a direction are compared with its first.
var directions = []struct {
	name string
	ways []way
}{
	{"rx + refill", []way{
		{"C", (*program).rxC},
		{"RxBurst", (*program).rxBurst},
		{"ring calls", (*program).rxRings},
	}},
	{"tx + complete", []way{
		{"C", (*program).txC},
		{"TxBurst", (*program).txBurst},
		{"ring calls", (*program).txRings},
	}},
	{"receive + recycle", []way{
		{"RxBurst", (*program).rxByHand},
		{"Queue", (*program).rxQueue},
	}},
	{"alloc + send", []way{
		{"TxBurst", (*program).txByHand},
		{"Queue", (*program).txQueue},
	}},
}

// BenchmarkRings measures each way by itself.
func BenchmarkRings(b *testing.B) {
	for _, d := range directions {
		for _, w := range d.ways {
			for _, n := range burstSizes {
				b.Run(fmt.Sprintf("%s/%s/%d", d.name, w.name, n), func(b *testing.B) {
					p := newProgram(b)
					b.ReportAllocs()
					b.ResetTimer()
					packets := w.move(p, b.N, n)
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
				})
			}
		}
	}
}

// BenchmarkCompare measures all ways side by side and prints a table of
// medians. The clock of a core drifts by half within minutes, so each way runs
// for a window of 100 us and then it is another's turn, in a new order every
// round; a difference is the median of those within a round.
// "-benchtime 1000x" takes 1000 rounds of 3 ms.
func BenchmarkCompare(b *testing.B) {
	p := newProgram(b)
	empty := newSeries(p, way{"crossing", (*program).cross}, 1)
	all := []*series{empty}
	for _, d := range directions {
		for _, w := range d.ways {
			for _, n := range burstSizes {
				all = append(all, newSeries(p, w, n))
			}
		}
	}
	order := slices.Clone(all)
	for b.Loop() {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, s := range order {
			s.measure(p)
		}
	}
	fmt.Printf("\nns per packet, medians of %d windows of %v; an empty call into C takes %.0f ns\n",
		len(empty.ns), window, median(empty.ns))
	rest := all[1:]
	for _, d := range directions {
		n := len(d.ways) * len(burstSizes)
		printTable(d.name, d.ways, rest[:n])
		rest = rest[n:]
	}
	fmt.Println()
	rest = all[1:]
	for _, d := range directions {
		n := len(d.ways) * len(burstSizes)
		printRatios(d.name, d.ways, rest[:n])
		rest = rest[n:]
	}
}

const window = 100 * time.Microsecond

// A series is what was measured of one way with one burst size.
type series struct {
	way    way
	size   int
	bursts int       // that fill a window
	ns     []float64 // per packet, by round
	allocs float64   // per burst
}

func newSeries(p *program, w way, size int) *series {
	s := &series{way: w, size: size, bursts: 1}
	took := s.run(p)
	for ; took < window; took = s.run(p) {
		s.bursts *= 2
	}
	s.bursts = max(1, int(int64(s.bursts)*int64(window)/int64(took)))
	s.allocs = testing.AllocsPerRun(10, func() { w.move(p, 100, size) }) / 100
	return s
}

func (s *series) run(p *program) time.Duration {
	start := time.Now()
	packets := s.way.move(p, s.bursts, s.size)
	took := time.Since(start)
	if packets != s.bursts*s.size {
		panic(fmt.Sprintf("%s moved %d packets instead of %d", s.way.name, packets, s.bursts*s.size))
	}
	return took
}

func (s *series) measure(p *program) {
	s.ns = append(s.ns, float64(s.run(p))/float64(s.bursts*s.size))
}

// printTable prints a line for each burst size. all has the series of each way
// in turn, by burst size.
func printTable(name string, ways []way, all []*series) {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\t%s\t", name, ways[0].name)
	for _, way := range ways[1:] {
		fmt.Fprintf(w, "%s\t- %s\t/ %s\tallocs\t", way.name, ways[0].name, ways[0].name)
	}
	fmt.Fprintln(w)
	for i, size := range burstSizes {
		first := all[i]
		fmt.Fprintf(w, "burst %d\t%.2f\t", size, median(first.ns))
		for j := range ways[1:] {
			s := all[(j+1)*len(burstSizes)+i]
			more := make([]float64, len(s.ns))
			for k := range more {
				more[k] = s.ns[k] - first.ns[k]
			}
			fmt.Fprintf(w, "%.2f\t%+.2f\t%.2f\t%g\t", median(s.ns), median(more), median(s.ns)/median(first.ns), s.allocs)
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
}

// printRatios prints a line for each comparison, as scripts/bench does for all:
// a ratio above 1 is better for the second way. Rounds in a row make seven groups,
// and the least and the most are of their ratios.
func printRatios(name string, ways []way, all []*series) {
	const groups = 7
	for i, size := range burstSizes {
		first := all[i]
		for j, way := range ways[1:] {
			s := all[(j+1)*len(burstSizes)+i]
			each := make([]float64, 0, groups)
			for g := range groups {
				from, to := g*len(s.ns)/groups, (g+1)*len(s.ns)/groups
				if from < to {
					each = append(each, median(first.ns[from:to])/median(s.ns[from:to]))
				}
			}
			fmt.Printf("bench: rings/%s/burst-%d/%s-vs-%s ours=%.2f other=%.2f ratio=%.3f min=%.3f max=%.3f\n",
				strings.ReplaceAll(name, " ", ""), size, strings.ReplaceAll(way.name, " ", "-"), ways[0].name,
				median(s.ns), median(first.ns), median(first.ns)/median(s.ns), slices.Min(each), slices.Max(each))
		}
	}
}

// median is the middle of values.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
