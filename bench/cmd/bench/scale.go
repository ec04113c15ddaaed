package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A sweep does one task with one thing growing.
type sweep struct {
	title string
	what  string // that grows
	steps []step
}

// A step is one size of it.
type step struct {
	value       string
	task        task
	contestants []contestant
}

// scalePart measures how the cost grows. Its turns are short: what it shows is
// whether something grows with the scale, not by how much one beats another.
func scalePart(s settings, r *results) error {
	s.rounds, s.turn = 5, 300*time.Millisecond
	if s.quick {
		s.rounds, s.turn = 1, 100*time.Millisecond
	}
	p := r.part("scale", s)
	var failed []error
	for _, sw := range sweeps() {
		t, ratios, err := sw.run(s)
		failed = append(failed, err)
		t.print(os.Stdout)
		fmt.Println()
		printRatios(os.Stdout, ratios)
		p.Tables = append(p.Tables, t)
	}
	t, err := idle(s)
	failed = append(failed, err)
	t.print(os.Stdout)
	p.Tables = append(p.Tables, t)
	return errors.Join(failed...)
}

func sweeps() []sweep {
	linger := []string{"-linger", "50"}
	receivers := []contestant{rings.with("rings", linger...), queue.with("queue", linger...), tactics.with("c-tactics", linger...)}
	senders := []contestant{rings, queue, tactics}

	queues := sweep{title: "receive on more queues, native", what: "queues"}
	for _, n := range []int{1, 4, 16, 64} {
		flags := append([]string{"-queues", strconv.Itoa(n), "-frames", "1024", "-framesize", "2048", "-ring", "512"}, linger...)
		queues.steps = append(queues.steps, step{
			strconv.Itoa(n), task{do: "rx", native: true, size: 64, queues: n, spread: n},
			[]contestant{queue.with("own", flags...), queue.with("shared", append(slices.Clone(flags), "-shared")...)},
		})
	}
	sent := sweep{title: "send larger packets, generic", what: "bytes"}
	received := sweep{title: "receive larger packets, generic", what: "bytes"}
	for _, size := range []int{64, 256, 1024, 1500, 3000, 9000} {
		from, to := senders, receivers
		if size > 4096-256 { // of several frames: on the rings only
			from, to = senders[:1], receivers[:1]
		}
		sent.steps = append(sent.steps, step{strconv.Itoa(size), task{do: "tx", size: size}, from})
		received.steps = append(received.steps, step{strconv.Itoa(size), task{do: "rx", size: size}, to})
	}
	sendBursts := sweep{title: "send in larger bursts, generic", what: "burst"}
	receiveBursts := sweep{title: "receive in larger bursts, generic", what: "burst"}
	for _, n := range []int{1, 4, 16, 64, 256} {
		batch := []string{"-batch", strconv.Itoa(n)}
		sendBursts.steps = append(sendBursts.steps, step{strconv.Itoa(n), task{do: "tx", size: 64, flags: batch}, senders})
		receiveBursts.steps = append(receiveBursts.steps, step{strconv.Itoa(n), task{do: "rx", size: 64, flags: batch}, receivers})
	}
	memory := sweep{title: "send from a larger umem, generic", what: "MiB"}
	for _, mib := range []int{1, 4, 16, 64, 256} {
		frames := []string{"-frames", strconv.Itoa(mib << 20 / 4096)}
		memory.steps = append(memory.steps, step{strconv.Itoa(mib), task{do: "tx", size: 64, flags: frames}, []contestant{rings, queue, sample}})
	}
	return []sweep{queues, sent, received, sendBursts, receiveBursts, memory}
}

// run makes a row of each step: packets a second, and ns of processor time a
// packet, of each contestant.
func (sw *sweep) run(s settings) (*table, []ratio, error) {
	t := &table{Title: sw.title + ": packets/s and CPU ns/packet", Head: []string{sw.what}}
	for _, c := range sw.steps[0].contestants {
		t.Head = append(t.Head, c.name+"/s", c.name+" ns")
	}
	if s.quick {
		sw.steps = []step{sw.steps[0], sw.steps[len(sw.steps)-1]}
	}
	var ratios []ratio
	var failed []error
	for _, st := range sw.steps {
		name := fmt.Sprintf("scale-%s-%s-%s", st.task.do, strings.ToLower(sw.what), st.value)
		c := comparison{name, st.task, st.contestants, nil}
		if last := st.contestants[len(st.contestants)-1].name; last != st.contestants[0].name {
			c.pairs = append(c.pairs, pair{st.contestants[0].name, last, pps, 0})
		}
		o, err := c.run(s)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		row := []string{st.value}
		for _, column := range o.Series {
			row = append(row, number(column.median(pps.of), "%.0f"), number(column.median(cpu), "%.0f"))
		}
		for len(row) < len(t.Head) {
			row = append(row, "-")
		}
		t.Rows = append(t.Rows, row)
		ratios = append(ratios, o.Ratios...)
	}
	return t, ratios, errors.Join(failed...)
}

// idle measures a busy queue beside idle ones, and what one of those takes.
func idle(s settings) (*table, error) {
	t := &table{
		Title: "a busy queue beside idle ones (64 frames of 2048, rings of 64), native; and bytes for each of those",
		Head:  []string{"idle", "packets/s", "CPU ns/packet", "Go heap", "C heap", "together", "rings", "umem"},
	}
	counts := []int{0, 1, 10, 100, 1000}
	if s.quick {
		counts = []int{0, 100}
	}
	for _, n := range counts {
		c := comparison{
			fmt.Sprintf("scale-idle-%d", n), task{do: "rx", native: true, size: 64, queues: n + 1},
			[]contestant{queue.with("queue", "-linger", "50", "-idle", strconv.Itoa(n))}, nil,
		}
		o, err := c.run(s)
		if err != nil {
			return t, err
		}
		busy := &o.Series[0]
		row := []string{strconv.Itoa(n), number(busy.median(pps.of), "%.0f"), number(busy.median(cpu), "%.0f")}
		extra := busy.Rounds[0].Extra
		if n == 0 {
			row = append(row, "-", "-", "-", "-", "-")
		} else {
			heap := extra["goheap"] + extra["cheap"]
			row = append(row, number(extra["goheap"], "%.0f"), number(extra["cheap"], "%.0f"), number(heap, "%.0f"),
				number(extra["rings"], "%.0f"), number(extra["umem"], "%.0f"))
			fmt.Println(ratio{
				Case: fmt.Sprintf("scale-idle-%d/heap-bytes/queue-vs-64KiB", n), Ours: heap, Other: 65536,
				Ratio: 65536 / heap, Min: 65536 / heap, Max: 65536 / heap,
			}.String() + "  # wanted: at least 1.00")
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}
