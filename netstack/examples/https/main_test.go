package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack/examples/internal/cmdline"
)

func TestMain(m *testing.M) { testns.Main(m) }

// start serves until the test ends, where do says, and leaves the certificate in a
// file.
func start(t *testing.T, do func(func() error) error, o *cmdline.Options) (certificate string) {
	t.Helper()
	certificate = filepath.Join(t.TempDir(), "page.pem")
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- do(func() error {
			return run(ctx, &options{Options: o, cert: certificate, ready: func(net.Addr) { close(ready) }})
		})
	}()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-ended)
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	case <-time.After(20 * time.Second):
		t.Fatal("the server is not ready")
	}
	return certificate
}

func here(f func() error) error { return f() }

// curl is run in the peer.
func curl(t *testing.T, p *testns.Peer, args ...string) (said []byte, err error) {
	t.Helper()
	var wrong bytes.Buffer
	require.NoError(t, p.Do(func() error {
		cmd := exec.Command("curl", append([]string{"--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "30"}, args...)...)
		cmd.Stderr = &wrong
		said, err = cmd.Output()
		return nil
	}))
	if err != nil {
		err = fmt.Errorf("%w: %s", err, wrong.Bytes())
	}
	return said, err
}

// ours is an address beside the kernel's 192.0.2.1 on the same interface.
var ours = netip.MustParsePrefix("192.0.2.10/24")

func TestCurlVerifiesThePage(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Native, bpf.Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			p := testns.MakePeer(t)
			certificate := start(t, here, &cmdline.Options{Interface: p.Near, Addresses: []netip.Prefix{ours}, Mode: mode, Port: 443})
			said, err := curl(t, p, "--cacert", certificate, "https://192.0.2.10/")
			require.NoError(t, err)
			assert.Regexp(t, `^This page came over HTTP/2.0 and TLS 1.3 to 192.0.2.2:\d+.\n$`, string(said))

			said, err = curl(t, p, "--cacert", certificate, "https://192.0.2.10/bytes/5000000")
			require.NoError(t, err)
			assert.Equal(t, sha256.Sum256(bytes.Repeat([]byte("abcdefghijklmnopqrstuvwxyz"), 5000000/26+1)[:5000000]), sha256.Sum256(said))

			_, err = curl(t, p, "https://192.0.2.10/")
			assert.ErrorContains(t, err, "certificate", "nobody else believes in it")
			_, err = curl(t, p, "--cacert", certificate, "https://192.0.2.10/bytes/many")
			assert.ErrorContains(t, err, "400")
		})
	}
}

func TestFetchesFromAKernel(t *testing.T) {
	p := testns.MakePeer(t)
	certificate := start(t, p.Do, &cmdline.Options{Kernel: true, Port: 4443})
	var page bytes.Buffer
	o := &options{
		Options: &cmdline.Options{Interface: p.Near, Addresses: []netip.Prefix{ours}},
		url:     "https://192.0.2.2:4443/bytes/1000000", cacert: certificate, out: &page,
	}
	require.NoError(t, run(t.Context(), o))
	assert.Equal(t, sha256.Sum256(bytes.Repeat([]byte("abcdefghijklmnopqrstuvwxyz"), 1000000/26+1)[:1000000]), sha256.Sum256(page.Bytes()))

	o.cacert = ""
	assert.ErrorContains(t, run(t.Context(), o), "certificate")
	o.cacert, o.url = certificate, "https://192.0.2.2:4443/none"
	assert.ErrorContains(t, run(t.Context(), o), "404")
	o.cacert = filepath.Join(t.TempDir(), "none")
	assert.ErrorIs(t, run(t.Context(), o), os.ErrNotExist)
}

func TestTheAlphabetIsTheSameHoweverItIsRead(t *testing.T) {
	var all bytes.Buffer
	_, err := io.CopyBuffer(struct{ io.Writer }{&all}, io.LimitReader(alphabet{}, 1000), make([]byte, 100))
	require.NoError(t, err)
	assert.Equal(t, bytes.Repeat([]byte("abcdefghijklmnopqrstuvwxyz"), 39)[:1000], all.Bytes())
}
