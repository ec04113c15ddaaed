package netstack

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A SYN is known when it comes again after about a second, and not when another like
// it does.
func TestASYNThatIsSentAgainIsKnown(t *testing.T) {
	var r repeats
	addresses, l4 := []byte{192, 0, 2, 1, 192, 0, 2, 2}, []byte{1, 2, 0, 80, 1, 2, 3, 4}
	assert.False(t, r.seen(addresses, l4))
	assert.False(t, r.seen(addresses, l4), "too soon")
	for i := range 10_000 {
		other := []byte{byte(i >> 8), byte(i), 0, 80, 1, 2, 3, 4}
		if i != 1<<8|2 {
			assert.False(t, r.seen(addresses, other))
		}
	}
	time.Sleep(3 * repeatUnit)
	assert.True(t, r.seen(addresses, l4))
	assert.False(t, r.seen(addresses, []byte{1, 2, 0, 80, 1, 2, 3, 5}), "another sequence number")
	assert.False(t, r.seen([]byte{192, 0, 2, 3, 192, 0, 2, 2}, l4), "another address")
}

// Strangers come in as many at a time as may be, each for a moment, and rest if they
// are not found; who is known comes in always, and who sends is not forgotten for
// those who do not.
func TestStrangersComeInAFewAtATime(t *testing.T) {
	const most = 4
	var s strangers
	s.init(most)
	address := func(i int) []byte { return []byte{10, byte(i >> 16), byte(i >> 8), byte(i)} }
	enters := func(i int) bool { in, _ := s.enter(s.hash(address(i))); return in }
	for i := range most {
		assert.True(t, enters(i))
		assert.True(t, enters(i), "more of it")
	}
	assert.False(t, enters(most))
	s.learn(address(1))
	assert.True(t, enters(most), "in the place of one that was found")
	assert.False(t, enters(most+1))
	sent := 2
	for enters(0) {
		sent++
	}
	assert.Equal(t, strangerSends, sent)
	time.Sleep(strangerWaits + 50*time.Millisecond)
	assert.True(t, enters(most+1), "there is room again")
	assert.False(t, enters(0), "it rests")
	time.Sleep(strangerRests)
	assert.True(t, enters(0))

	s.learn(address(7))
	assert.True(t, s.knows(s.hash(address(7))), "and marks it")
	for i := range 100_000 {
		s.learn(address(1000 + i))
	}
	assert.True(t, s.knows(s.hash(address(7))))
	s.forget(address(7))
	assert.False(t, s.knows(s.hash(address(7))))
	assert.False(t, enters(7), "it rests")
}
