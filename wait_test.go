package xsk

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTurnIsOverWhenItsTimeIs(t *testing.T) {
	rounds := func(t *turn, long bool) (over [10]bool) {
		for i := range over {
			over[i] = t.over(long)
		}
		return over
	}
	for name, c := range map[string]struct {
		began time.Duration // in an hour it has not begun, an hour ago it is long over
		long  bool
		want  [10]bool
	}{
		"short rounds, in time":   {time.Hour, false, [10]bool{}},
		"long rounds, in time":    {time.Hour, true, [10]bool{}},
		"short rounds, over time": {-time.Hour, false, [10]bool{7: true}}, // the 8th asks the clock
	} {
		turn := turn{last: time.Now().Add(c.began)}
		assert.Equal(t, c.want, rounds(&turn, c.long), name)
	}

	long, before := turn{last: time.Now().Add(-time.Hour)}, time.Now()
	assert.True(t, long.over(true), "a long round asks the clock")
	assert.False(t, long.last.Before(before), "and the next turn begins")
}

// On one processor, who passes runs after those who were ready: at the latest the
// second time, for the scheduler turns to its other queue first now and then.
func TestTurnPassesToOthers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for name, pass := range map[string]func(){"pass": turn{}.pass, "yield": yield} {
		var ran atomic.Bool
		go ran.Store(true)
		pass()
		pass()
		assert.True(t, ran.Load(), name)
	}
}
