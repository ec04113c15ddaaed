package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A client loads a server, and asks it what that took.
type client struct {
	network network
	server  netip.AddrPort
	load    load
}

// A load is what a client does.
type load struct {
	streams int
	size    int  // bytes to write at a time
	trips   bool // requests and replies, in place of streams
}

// patience is how long a connection may take to begin, and to end: a stack may
// have megabytes under way, and have to send some of them again.
const patience = 20 * time.Second

// work loads the server until turn ends, or for some time, and waits until all has
// arrived.
func (c *client) work(turn context.Context, limit time.Duration) (*result, error) {
	before, err := c.usages()
	if err != nil {
		return nil, err
	}
	r := &result{}
	began := time.Now()
	turn, cancel := context.WithTimeout(turn, limit)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex // r
	errs := make([]error, c.load.streams)
	for i := range errs {
		wg.Go(func() {
			done, err := c.talk(turn, uint64(i))
			errs[i] = err
			mu.Lock()
			defer mu.Unlock()
			r.add(done)
		})
	}
	wg.Wait()
	r.seconds = time.Since(began).Seconds()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	after, err := c.usages()
	if err != nil {
		return nil, err
	}
	r.client, r.server = after[0].since(before[0]), after[1].since(before[1])
	slices.Sort(r.trips)
	return r, nil
}

// dial connects, and says what for.
func (c *client) dial(purpose byte) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := c.network.Dial(ctx, c.server)
	if err != nil {
		return nil, err
	}
	if _, err = conn.Write([]byte{purpose}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// usages are the client's and the server's.
func (c *client) usages() (u [2]usage, err error) {
	conn, err := c.dial(toTell)
	if err != nil {
		return u, err
	}
	defer conn.Close()
	if err := errors.Join(conn.SetDeadline(time.Now().Add(patience)), json.NewDecoder(conn).Decode(&u[1])); err != nil {
		return u, fmt.Errorf("ask the server what it used: %w", err)
	}
	u[0], err = usageOf(c.network)
	return u, err
}

func (c *client) talk(turn context.Context, stream uint64) (*result, error) {
	purpose := byte(toStream)
	if c.load.trips {
		purpose = toReply
	}
	conn, err := c.dial(purpose)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(turn, func() { _ = conn.SetDeadline(time.Now().Add(patience)) })()
	var r *result
	if c.load.trips {
		r, err = c.travel(turn, conn)
	} else {
		r, err = c.pour(turn, conn, stream)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %d: %w", stream, err)
	}
	return r, nil
}

// pour writes until the turn ends, once at least, and compares what arrived.
func (c *client) pour(turn context.Context, conn net.Conn, stream uint64) (*result, error) {
	sent, pattern := newSample(), newPattern(stream, c.load.size)
	for sent.bytes == 0 || turn.Err() == nil {
		n, err := conn.Write(pattern.next(c.load.size))
		sent.add(pattern.next(n))
		pattern.skip(n)
		if err != nil {
			return nil, err
		}
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return nil, fmt.Errorf("%T has no CloseWrite", conn)
	}
	if err := half.CloseWrite(); err != nil {
		return nil, err
	}
	var v verdict
	if err := binary.Read(conn, binary.BigEndian, &v); err != nil {
		return nil, fmt.Errorf("the server's verdict: %w", err)
	}
	r := &result{bytes: v.Bytes}
	if v.Bytes != sent.bytes || v.Sum != [32]byte(sent.hash.Sum(nil)) {
		r.bad = 1
	}
	return r, nil
}

// travel sends requests, each when the reply to the one before is there; one at
// least.
func (c *client) travel(turn context.Context, conn net.Conn) (*result, error) {
	r := &result{trips: make([]time.Duration, 0, 1<<16)}
	request, reply := newPattern(0, tripSize), make([]byte, tripSize)
	for r.bytes == 0 || turn.Err() == nil {
		p := request.next(tripSize)
		began := time.Now()
		if _, err := conn.Write(p); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(conn, reply); err != nil {
			return nil, err
		}
		r.trips = append(r.trips, time.Since(began))
		if !bytes.Equal(p, reply) {
			r.bad++
		}
		request.skip(tripSize)
		r.bytes += 2 * tripSize
	}
	return r, nil
}
