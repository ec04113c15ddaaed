package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) { testns.Main(m) }

// Go's own resolver asks over a kernel socket in the other namespace.
func TestResolverGetsItsAnswers(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Generic, bpf.Native} {
		t.Run(mode.String(), func(t *testing.T) {
			p := testns.MakePeer(t)
			long := strings.Repeat("long-label-of-a-name.", 11) + "org"
			names := zone{}
			require.NoError(t, names.add("Example.org=192.0.2.77"))
			for i := range mostAddresses {
				require.NoError(t, names.add(fmt.Sprint(long, "=192.0.2.", i)))
			}
			o := &cmdline.Options{Interface: p.Near, NeedWakeup: true, Size: 3840, Batch: 64, Mode: mode, Ports: []uint16{53}}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- run(ctx, o, names) }()

			resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
				return p.Dial("192.0.2.1:53")
			}}
			patience := 100 * time.Millisecond // until the example is there
			lookup := func(kind, name string) ([]netip.Addr, error) {
				ctx, stop := context.WithTimeout(ctx, patience)
				defer stop()
				return resolver.LookupNetIP(ctx, kind, name)
			}
			require.Eventually(t, func() bool {
				addresses, err := lookup("ip4", "example.org.")
				return err == nil && assert.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.77")}, addresses)
			}, 10*time.Second, time.Millisecond)
			patience = 5 * time.Second
			addresses, err := lookup("ip", "eXample.ORG.") // A and AAAA
			require.NoError(t, err)
			assert.Len(t, addresses, 1)
			addresses, err = lookup("ip4", long+".")
			require.NoError(t, err)
			assert.Len(t, addresses, mostAddresses)
			_, err = lookup("ip4", "example.com.")
			assert.Error(t, err)
			stop()
			assert.NoError(t, <-done)
		})
	}
}

func TestRespond(t *testing.T) {
	z := zone{}
	require.NoError(t, z.add("example.org=192.0.2.1"))
	for _, bad := range []string{"example.org", "=", "example.org=::1", "example.org=1.2.3"} {
		assert.Error(t, z.add(bad), bad)
	}
	ask := func(name string, kind dnsmessage.Type, h dnsmessage.Header) dnsmessage.Message {
		t.Helper()
		query := dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{
			{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET},
		}}
		buf, err := query.Pack()
		require.NoError(t, err)
		got, err := z.respond(buf, buf[:0]) // in its own memory
		require.NoError(t, err)
		var m dnsmessage.Message
		require.NoError(t, m.Unpack(got))
		assert.Equal(t, query.Questions, m.Questions)
		assert.Equal(t, h.ID, m.ID)
		return m
	}
	m := ask("example.org.", dnsmessage.TypeA, dnsmessage.Header{ID: 7, RecursionDesired: true})
	assert.True(t, m.Authoritative && m.RecursionDesired)
	assert.Equal(t, &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}, m.Answers[0].Body)
	m = ask("example.org.", dnsmessage.TypeAAAA, dnsmessage.Header{})
	assert.Equal(t, dnsmessage.RCodeSuccess, m.RCode)
	assert.Empty(t, m.Answers)
	m = ask("example.com.", dnsmessage.TypeA, dnsmessage.Header{})
	assert.Equal(t, dnsmessage.RCodeRefused, m.RCode)
	m = ask("example.org.", dnsmessage.TypeA, dnsmessage.Header{OpCode: 4})
	assert.Equal(t, dnsmessage.RCodeNotImplemented, m.RCode)
	assert.Empty(t, m.Answers)
	response, err := (&dnsmessage.Message{Header: dnsmessage.Header{Response: true}}).Pack()
	require.NoError(t, err)
	for _, nonsense := range [][]byte{nil, make([]byte, 11), make([]byte, 40), response} {
		_, err := z.respond(nonsense, nil)
		assert.Error(t, err)
	}
}
