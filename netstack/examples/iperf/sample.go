package main

import (
	"crypto/sha256"
	"hash"
	"math/rand/v2"
)

// A sample is the SHA-256 of one part in 64 of a stream, and its length. Both
// sides take one, of what they wrote and of what they read.
type sample struct {
	bytes uint64
	hash  hash.Hash
}

const (
	sampleEvery = 4 << 20
	sampleSize  = sampleEvery / 64
)

func newSample() *sample { return &sample{hash: sha256.New()} }

// add takes the bytes that come next.
func (s *sample) add(p []byte) {
	for len(p) > 0 {
		at := s.bytes % sampleEvery
		n := min(uint64(len(p)), sampleEvery-at)
		if at < sampleSize {
			n = min(n, sampleSize-at)
			s.hash.Write(p[:n])
		}
		s.bytes += n
		p = p[n:]
	}
}

// A pattern is what a stream is made of: random bytes, the same again and again.
// The period divides nothing, so that what is lost or comes twice moves all that
// follows to another place.
type pattern struct {
	bytes []byte
	at    int
}

const period = 65521 // a prime

// newPattern makes a stream that can be read size bytes at a time.
func newPattern(stream uint64, size int) *pattern {
	p := &pattern{bytes: make([]byte, period+size)}
	random := rand.New(rand.NewPCG(stream, 8))
	for i := range period {
		p.bytes[i] = byte(random.Uint32())
	}
	for i := period; i < len(p.bytes); i++ {
		p.bytes[i] = p.bytes[i-period]
	}
	return p
}

// next are the bytes that follow; skip says how many of them are gone.
func (p *pattern) next(size int) []byte { return p.bytes[p.at : p.at+size] }
func (p *pattern) skip(n int)           { p.at = (p.at + n) % period }
