package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestSnapLengthCutsThePacketAndKeepsItsLength(t *testing.T) {
	near, far := testns.Veth{}.Make(t)
	c := newConfig(near, bpf.Native)
	c.expression, c.file, c.Count, c.Size = "udp", "-", 2, 60
	d := start(t, c)
	long, short := datagram(t, 1, 53, 1000), datagram(t, 2, 53, 6)
	transmit(t, sender(t, far, 0), [][]byte{long, short})
	d.end(t)
	got, _ := readBack(t, []byte(d.out.String()))
	require.Len(t, got, 2)
	assert.Equal(t, string(long[:60]), got[0].data)
	assert.Equal(t, len(long), got[0].Length)
	assert.Equal(t, string(short), got[1].data)
}

func TestJumboPacketsAreWhole(t *testing.T) {
	testns.Need(t, "6.6 multi-buffer AF_XDP")
	near, far := testns.Veth{MTU: 9000}.Make(t)
	c := newConfig(near, bpf.Native)
	c.expression, c.file, c.Count = "udp port 53", "-", 3
	d := start(t, c)
	var sent [][]byte
	for i, size := range []int{8900, 10, 5000} {
		sent = append(sent, datagram(t, i, 53, size))
		write(t, far, sent[i]) // a frame of a Queue is too short
	}
	d.end(t)
	got, _ := readBack(t, []byte(d.out.String()))
	require.Len(t, got, 3)
	for i := range sent {
		require.Equal(t, string(sent[i]), got[i].data, "packet %d", i)
	}
}

func TestALineAPacket(t *testing.T) {
	near, far := testns.Veth{}.Make(t)
	c := newConfig(near, bpf.Generic)
	c.expression, c.Count = "udp or arp", 2
	d := start(t, c)
	arp := append(append(make([]byte, 12), 8, 6), make([]byte, 46)...)
	transmit(t, sender(t, far, 0), [][]byte{datagram(t, 1, 7777, 100), arp})
	d.end(t)
	lines := strings.Split(strings.TrimSpace(d.out.String()), "\n")
	require.Len(t, lines, 2)
	assert.Regexp(t, `^\d\d:\d\d:\d\d\.\d{6} q0 192\.0\.2\.1 port 4000 > 192\.0\.2\.2 port 7777: IPv4 UDP, 142 bytes$`, lines[0])
	assert.Regexp(t, ` q0 00:00:00:00:00:00 > 00:00:00:00:00:00: .*, 60 bytes$`, lines[1])
}

func TestLimitEndsInsideABurst(t *testing.T) {
	var out text
	c := &capture{sink: &lines{bufio.NewWriter(&out)}, most: 2, snap: mostBytes}
	ctx, end := context.WithCancel(t.Context())
	c.end = end
	burst := []xsk.Frame{{Data: datagram(t, 1, 53, 10)}, {Data: datagram(t, 2, 53, 10)}, {Data: datagram(t, 3, 53, 10)}}
	require.NoError(t, c.keep(0, burst, time.Now()))
	assert.Error(t, ctx.Err())
	require.NoError(t, c.keep(0, burst, time.Now()))
	assert.EqualValues(t, 2, c.packets)
	assert.Equal(t, 2, strings.Count(out.String(), "\n"))
}

func TestNothingIsWrittenBeforeTheSocketsAreOpen(t *testing.T) {
	near, _ := testns.Veth{}.Make(t)
	c := newConfig(near, bpf.Auto)
	c.expression, c.file = "udp prot 53", filepath.Join(t.TempDir(), "kept")
	require.NoError(t, os.WriteFile(c.file, []byte("kept"), 0o600))
	err := run(t.Context(), c, new(text), new(text))
	require.ErrorContains(t, err, "syntax error")
	kept, err := os.ReadFile(c.file)
	require.NoError(t, err)
	assert.Equal(t, "kept", string(kept))
	c.expression, c.queues = "udp", []int{7}
	require.Error(t, run(t.Context(), c, new(text), new(text)), "there is no such queue")
	kept, err = os.ReadFile(c.file)
	require.NoError(t, err)
	assert.Equal(t, "kept", string(kept))
	c.Interface = "none0"
	require.ErrorContains(t, run(t.Context(), c, new(text), new(text)), "no interface none0")
}

func TestInterfaceThatGoesEndsTheCapture(t *testing.T) {
	near, _ := testns.Veth{}.Make(t)
	c := newConfig(near, bpf.Native)
	c.expression = "udp"
	d := start(t, c)
	testns.IP(t, "link", "del", near)
	select {
	case err := <-d.done:
		require.ErrorIs(t, err, syscall.ENODEV)
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	assert.Contains(t, d.log.String(), "xskdump: captured=0")
}

// helper makes the test binary xskdump itself.
const helper = "XSKDUMP_TEST_HELPER"

func TestCommandLineSaysWhatToCapture(t *testing.T) {
	for line, part := range map[string]string{
		"-d lo":                          "nothing to capture",
		"-d lo -udp 53 -e arp":           "exclude each other",
		"-d lo -all -e arp":              "exclude each other",
		"-d lo -e arp -s 0":              "-s 0 is outside 1 to 262144",
		"-d none0 -e arp":                "no interface none0",
		"-d lo -t 0.1 -tcp 443 -q 0":     "lo queue 0: ",
		"-d lo -t 0.1 -e arp -mode auto": "captured=0",
	} {
		cmd := exec.Command("/proc/self/exe", strings.Fields(line)...)
		cmd.Env = append(os.Environ(), helper+"=1")
		said, _ := cmd.CombinedOutput()
		assert.Contains(t, string(said), part, line)
	}
}

// shown is what ip(8) says of an interface.
func shown(t *testing.T, ifname string) string {
	t.Helper()
	out, err := exec.Command("ip", "-details", "link", "show", "dev", ifname).CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

func TestPromiscuousModeEndsWithTheProcess(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			near, _ := testns.Veth{}.Make(t)
			cmd := exec.Command("/proc/self/exe", "-d", near, "-e", "udp", "-p")
			cmd.Env = append(os.Environ(), helper+"=1")
			log, err := cmd.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			said := ""
			in := bufio.NewScanner(log)
			for !strings.Contains(said, "ready") && in.Scan() {
				said += in.Text() + "\n"
			}
			require.Contains(t, said, "ready", said)
			assert.Contains(t, shown(t, near), "promiscuity 1")
			assert.Contains(t, shown(t, near), "prog/xdp")

			require.NoError(t, cmd.Process.Signal(signal))
			for in.Scan() {
				said += in.Text() + "\n"
			}
			err = cmd.Wait()
			if signal != syscall.SIGKILL {
				require.NoError(t, err, said)
				assert.Contains(t, said, "xskdump: captured=0")
			}
			require.Eventually(t, func() bool { return !strings.Contains(shown(t, near), "prog/xdp") }, patience, 10*time.Millisecond)
			assert.Contains(t, shown(t, near), "promiscuity 0")
		})
	}
}

func TestWithoutPromiscuousModeItStaysOff(t *testing.T) {
	near, _ := testns.Veth{}.Make(t)
	c := newConfig(near, bpf.Native)
	c.expression = "udp"
	d := start(t, c)
	assert.Contains(t, shown(t, near), "promiscuity 0")
	d.cancel()
	d.end(t)
}

func TestDescribe(t *testing.T) {
	dns := datagram(t, 1, 53, 6)
	for want, packet := range map[string][]byte{
		"192.0.2.1 port 4000 > 192.0.2.2 port 53: IPv4 UDP (cut short or damaged)": dns, // no DNS in it
		"192.0.2.1 > 192.0.2.2: IPv4 UDP (cut short or damaged)":                   dns[:36],
		"02:00:00:00:00:01 > 02:00:00:00:00:02: IPv4 (cut short or damaged)":       dns[:16],
		" > :  (cut short or damaged)":                                             dns[:5],
	} {
		assert.Equal(t, want, describe(packet), fmt.Sprintf("%x", packet))
	}
}

func TestDescribeTakesAnything(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 20_000 {
		p := datagram(t, i, random.IntN(1000), random.IntN(60))
		p = p[:random.IntN(len(p))]
		for range random.IntN(5) {
			if len(p) > 0 {
				p[random.IntN(len(p))] = byte(random.Uint32())
			}
		}
		_ = describe(p)
	}
}

func TestInterfaceCountsAreOfTheThreadsNamespace(t *testing.T) {
	peer := testns.MakePeer(t)
	require.NoError(t, peer.Do(func() error {
		nic, err := openNIC("eth0")
		if err == nil {
			nic.close()
		}
		return err
	}))
}
