package cmdline

import (
	"fmt"
	"time"
)

// A Meter counts packets, and prints their rate once a second. It belongs to
// one goroutine.
type Meter struct {
	Packets, Bytes uint64

	name        string
	begin       time.Time
	first, last time.Duration // since begin, when packets were counted
	tick        time.Duration // the last line was printed then,
	shown       uint64        // for these packets
	shownBytes  uint64
}

// NewMeter starts a Meter; name opens each line.
func NewMeter(name string) *Meter {
	return &Meter{name: name, begin: time.Now(), first: -1}
}

// FromNow lets Seconds begin now, rather than with the first packet.
func (m *Meter) FromNow() {
	m.first = time.Since(m.begin)
	m.last = m.first
}

// Add counts packets. Call it for every burst, the empty ones too: it is what
// looks at the clock.
func (m *Meter) Add(packets, bytes int) {
	now := time.Since(m.begin)
	if packets > 0 {
		m.Packets += uint64(packets)
		m.Bytes += uint64(bytes)
		m.last = now
		if m.first < 0 {
			m.first = now
		}
	}
	if now-m.tick >= time.Second {
		m.print(now)
	}
}

func (m *Meter) print(now time.Duration) {
	seconds := (now - m.tick).Seconds()
	pps := float64(m.Packets-m.shown) / seconds
	bps := float64(m.Bytes-m.shownBytes) * 8 / seconds
	fmt.Printf("%s: %3.0f s %9.0f packets/s %9.3f Mbit/s\n", m.name, now.Seconds(), pps, bps/1e6)
	m.tick, m.shown, m.shownBytes = now, m.Packets, m.Bytes
}

// Seconds is the time from the first packet to the last one.
func (m *Meter) Seconds() float64 {
	if m.first < 0 {
		return 0
	}
	return (m.last - m.first).Seconds()
}

// Rate is n per second over that time.
func (m *Meter) Rate(n uint64) float64 {
	if seconds := m.Seconds(); seconds > 0 {
		return float64(n) / seconds
	}
	return 0
}
