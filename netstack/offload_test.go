package netstack_test

import (
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// The kernel stands for the device: it is asked to fill in the checksums.
func TestChecksumsAreLeftToTheDevice(t *testing.T) {
	testns.Need(t, "6.11 XDP_UMEM_TX_METADATA_LEN")
	p := makePeer(t)
	cfg := &netstack.Config{Addresses: prefixes(ours4, ours6), Mode: bpf.Native}
	cfg.ChecksumOffload = true
	cfg.Queue.UmemConfig.Flags = xsk.UmemTxSWCsum
	h, err := netstack.Open(soon(t), p.Near, cfg)
	if errors.Is(err, errors.ErrUnsupported) { // libxdp before 1.5 cannot ask
		require.ErrorContains(t, err, "libxdp 1.5.0")
		return
	}
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, h.Close()) })
	transfer(t, onPeer(p), net.JoinHostPort(peer4, "0"), fromHost(t, h), 5e6, true)
	transfer(t, onPeer(p), net.JoinHostPort(peer6, "0"), fromHost(t, h), 5e6, true)
	assert.Zero(t, h.Endpoint().Stats().TxRefused)
}

func TestChecksumOffloadNeedsMemoryForIt(t *testing.T) {
	testns.Kernel(t)
	near, _ := testns.Veth{}.Make(t)
	q, err := xsk.Open(near, 0, &xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, q.Close()) })
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	_, err = netstack.NewEndpoint([]*xsk.Queue{q}, mac, &netstack.Options{ChecksumOffload: true})
	assert.ErrorContains(t, err, "netstack: new endpoint: ChecksumOffload: ")
	assert.ErrorContains(t, err, "TxMetadataLen")
	_, err = netstack.NewEndpoint[*xsk.Queue](nil, mac, nil)
	assert.ErrorContains(t, err, "no port")
	_, err = netstack.NewEndpoint([]*xsk.Queue{q}, nil, nil)
	assert.ErrorContains(t, err, "MAC")
	_, err = netstack.NewEndpoint([]*xsk.Queue{q}, mac, &netstack.Options{MTU: 65000})
	assert.NoError(t, err, "17 frames hold it")
}
