package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack/examples/internal/cmdline"
)

func TestMain(m *testing.M) { testns.Main(m) }

func TestWhatAKernelSaysComesBack(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Native, bpf.Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			p := testns.MakePeer(t)
			o := &cmdline.Options{Interface: p.Near, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}, Mode: mode, Port: 7}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			ready, ended := make(chan net.Addr, 1), make(chan error, 1)
			var did *echoed
			go func() {
				var err error
				did, err = run(ctx, o, ready)
				ended <- err
			}()
			select {
			case <-ready:
			case err := <-ended:
				t.Fatal(err)
			}
			const size = 3 << 20
			for i := range 3 {
				require.NoError(t, converse(p, uint64(i), size))
			}
			open, err := dial(p) // still there when the program ends
			require.NoError(t, err)
			defer open.Close()
			_, err = open.Write([]byte("hello"))
			require.NoError(t, err)
			_, err = io.ReadFull(open, make([]byte, 5))
			require.NoError(t, err)
			stop()
			require.NoError(t, <-ended)
			assert.EqualValues(t, 4, did.connections)
			assert.EqualValues(t, 3*size+5, did.bytes)
		})
	}
}

func dial(p *testns.Peer) (conn net.Conn, err error) {
	err = p.Do(func() error {
		conn, err = net.DialTimeout("tcp", "192.0.2.10:7", 20*time.Second)
		return err
	})
	return conn, err
}

// converse sends so many bytes from a kernel socket, and compares what comes back.
func converse(p *testns.Peer, seed uint64, size int64) error {
	conn, err := dial(p)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		return err
	}
	sent, got := sha256.New(), sha256.New()
	wrote := make(chan error, 1)
	go func() {
		var key [32]byte
		key[0] = byte(seed)
		_, err := io.CopyN(io.MultiWriter(conn, sent), rand.NewChaCha8(key), size)
		if err == nil {
			err = conn.(*net.TCPConn).CloseWrite()
		}
		wrote <- err
	}()
	n, err := io.Copy(got, conn)
	if err != nil {
		return err
	}
	if err := <-wrote; err != nil {
		return err
	}
	if n != size || string(got.Sum(nil)) != string(sent.Sum(nil)) {
		return fmt.Errorf("of %d bytes %d came back, or others", size, n)
	}
	return nil
}
