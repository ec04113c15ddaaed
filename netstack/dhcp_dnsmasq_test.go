package netstack_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// A dnsmasq is Debian's DHCP server in the peer's network. scripts/setup installs it.
type dnsmasq struct {
	leases string // its file
	cmd    *exec.Cmd

	mu  sync.Mutex
	log bytes.Buffer
}

func (d *dnsmasq) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(b)
}

// said counts the lines of its log that have all the words.
func (d *dnsmasq) said(words ...string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
lines:
	for _, line := range strings.Split(d.log.String(), "\n") {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue lines
			}
		}
		n++
	}
	return n
}

// lent are the lines of its lease file.
func (d *dnsmasq) lent(t *testing.T) []string {
	b, err := os.ReadFile(d.leases)
	require.NoError(t, err)
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
}

func startDnsmasq(t *testing.T, p *testns.Peer, args ...string) *dnsmasq {
	t.Helper()
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/dnsmasq")
	}
	if err != nil {
		testns.Missing(t, "dnsmasq (scripts/setup installs it)")
	}
	d := &dnsmasq{leases: filepath.Join(t.TempDir(), "leases")}
	d.cmd = exec.Command(path, append([]string{"--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=",
		"--log-facility=-", "--log-dhcp", "--port=0", "--no-ping", "--interface=eth0", "--bind-interfaces",
		"--dhcp-leasefile=" + d.leases, "--dhcp-authoritative"}, args...)...)
	d.cmd.Stdout, d.cmd.Stderr = d, d
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() { // whose thread must last as long as the process
		ended <- p.Do(func() error {
			err := d.cmd.Start()
			started <- err
			if err == nil {
				_ = d.cmd.Wait()
			}
			return err
		})
	}()
	require.NoError(t, <-started)
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGCONT)
		_ = d.cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Log(d.log.String())
		}
	})
	eventually(t, "dnsmasq", func() bool { return d.said("IP range") > 0 })
	return d
}

// The whole life of a lease as a real server sees it: lent, renewed, run out, lent again
// and given back.
func TestDHCPWithDnsmasq(t *testing.T) {
	testns.Kernel(t)
	netstack.SetDHCPSecond(25 * time.Millisecond) // dnsmasq lends for two minutes at least
	defer netstack.SetDHCPSecond(dhcpSecond)
	p := testns.MakePeer(t)
	d := startDnsmasq(t, p, "--dhcp-range=192.0.2.60,192.0.2.60,255.255.255.0,2m", "--dhcp-option=58,20", "--dhcp-option=59,30",
		"--dhcp-option=121,198.51.100.0/24,"+peer4+",0.0.0.0/0,"+peer4)
	h := open(t, p.Near, &netstack.Config{DHCP: true, Mode: bpf.Native})
	const lease = "192.0.2.60/24"
	has(t, h, lease)
	assert.Equal(t, lease+" via "+peer4, lastLine(h.String()))
	mac := macOf(t, p.Near)
	lent := d.lent(t)
	require.Len(t, lent, 1)
	fields := strings.Fields(lent[0])
	require.Len(t, fields, 5)
	assert.Equal(t, mac, fields[1])
	assert.Equal(t, "192.0.2.60", fields[2])
	id, err := hex.DecodeString(strings.ReplaceAll(fields[4], ":", ""))
	require.NoError(t, err)
	require.Len(t, id, 23)
	assert.Equal(t, byte(255), id[0])

	questions := d.said("DHCPDISCOVER(eth0)")
	requests := d.said("DHCPREQUEST(eth0)", "192.0.2.60", mac)
	eventually(t, "a renewal", func() bool { return d.said("DHCPACK(eth0)", "192.0.2.60", mac) > requests })
	assert.Equal(t, questions, d.said("DHCPDISCOVER(eth0)"))
	has(t, h, lease)

	require.NoError(t, d.cmd.Process.Signal(syscall.SIGSTOP))
	becomes(t, h, "")
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGCONT))
	becomes(t, h, lease)
	assert.Greater(t, d.said("DHCPDISCOVER(eth0)"), questions)
	transfer(t, onPeer(p), peer4+":0", fromHost(t, h), 10_000, false)

	require.NoError(t, h.Close())
	eventually(t, "a release", func() bool { return d.said("DHCPRELEASE(eth0)", "192.0.2.60", mac) == 1 })
	eventually(t, "the lease file", func() bool { return len(d.lent(t)) == 0 })
	assert.Zero(t, d.said("DHCPDECLINE")+d.said("DHCPNAK"))
	if !full() {
		return
	}

	// One that is not given back runs out there, too: in two minutes of a real clock.
	h = open(t, p.Near, &netstack.Config{DHCP: true, Mode: bpf.Native})
	require.Len(t, d.lent(t), 1)
	testns.IP(t, "link", "set", p.Near, "down")
	require.NoError(t, h.Close())
	require.Eventually(t, func() bool { return len(d.lent(t)) == 0 }, 4*time.Minute, time.Second)
}
