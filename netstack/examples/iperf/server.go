package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A server takes streams and answers requests until it is told to end.
type server struct {
	network network
	streams atomic.Uint64
	bytes   atomic.Uint64
	replies atomic.Uint64
}

// The first byte of a connection says what it is for.
const (
	toStream = 'S' // bytes until the client ends its side; then a verdict
	toReply  = 'R' // requests of tripSize bytes, which go back as they are
	toTell   = 'U' // the server's usage, as JSON
)

const tripSize = 64

// A verdict is what the server answers to a stream: how many bytes came, and the
// SHA-256 of the sample.
type verdict struct {
	Bytes uint64
	Sum   [32]byte
}

func (s *server) String() string {
	return fmt.Sprintf("received=%d streams=%d replies=%d", s.bytes.Load(), s.streams.Load(), s.replies.Load())
}

// serve ends with ctx, or with an error of the listener.
func (s *server) serve(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			defer conn.Close()
			_ = s.answer(conn) // the client has it too
		})
	}
}

func (s *server) answer(conn net.Conn) error {
	var purpose [1]byte
	if _, err := io.ReadFull(conn, purpose[:]); err != nil {
		return err
	}
	switch purpose[0] {
	case toStream:
		return s.take(conn)
	case toReply:
		return s.reply(conn)
	case toTell:
		u, err := usageOf(s.network)
		if err != nil {
			return err
		}
		return json.NewEncoder(conn).Encode(u)
	}
	return fmt.Errorf("connection for %q", purpose)
}

func (s *server) take(conn net.Conn) error {
	sample, buf := newSample(), make([]byte, 256<<10)
	for {
		n, err := conn.Read(buf)
		sample.add(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	s.streams.Add(1)
	s.bytes.Add(sample.bytes)
	return binary.Write(conn, binary.BigEndian, verdict{sample.bytes, [32]byte(sample.hash.Sum(nil))})
}

func (s *server) reply(conn net.Conn) error {
	var request [tripSize]byte
	for {
		if _, err := io.ReadFull(conn, request[:]); err != nil {
			return err
		}
		if _, err := conn.Write(request[:]); err != nil {
			return err
		}
		s.replies.Add(1)
	}
}
