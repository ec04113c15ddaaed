package cmdline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

func parse(t *testing.T, line string) (*Options, error) {
	t.Helper()
	s := New("test", "tests", 64)
	err := s.parse(strings.Fields(line))
	return &s.options, err
}

func TestDefaults(t *testing.T) {
	o, err := parse(t, "-d eth7")
	require.NoError(t, err)
	assert.Equal(t, &Options{
		Interface: "eth7", NeedWakeup: true, Size: 64, Batch: 64, Mode: bpf.Auto, Ports: []uint16{9000},
	}, o)
	assert.Equal(t, xsk.BindNeedWakeup, o.BindFlags())
	assert.Equal(t, 2048, o.FrameSize())
}

func TestDefaultPorts(t *testing.T) {
	s := New("test", "tests", 64)
	s.DefaultPorts("53")
	require.NoError(t, s.parse([]string{"-d", "e"}))
	assert.Equal(t, []uint16{53}, s.options.Ports)
	require.NoError(t, s.parse([]string{"-d", "e", "-udp", "54"}))
	assert.Equal(t, []uint16{54}, s.options.Ports)
}

func TestNoDefaultPorts(t *testing.T) {
	s := New("test", "tests", 64)
	s.DefaultPorts("")
	require.NoError(t, s.parse([]string{"-d", "e"}))
	assert.Empty(t, s.options.Ports)
}

func TestSizeMayMeanAnother(t *testing.T) {
	s := New("test", "tests", 5)
	s.SizeIs("`bytes` of it", 1, 10)
	require.NoError(t, s.parse([]string{"-d", "e"}))
	assert.Equal(t, 5, s.options.Size)
	require.NoError(t, s.parse([]string{"-d", "e", "-s", "1"}))
	require.ErrorContains(t, s.parse([]string{"-d", "e", "-s", "11"}), "1 to 10")
	assert.True(t, s.Given("s"))
	assert.False(t, s.Given("q"))
}

func TestEveryFlag(t *testing.T) {
	o, err := parse(t, "-d e -q 3 -c 10 -t 0.5 -w=false -z -s 3840 -n 16 -mode native -udp 1,65535")
	require.NoError(t, err)
	assert.Equal(t, &Options{
		Interface: "e", Queue: 3, Count: 10, Time: time.Second / 2, ZeroCopy: true, Size: 3840, Batch: 16,
		Mode: bpf.Native, Ports: []uint16{1, 65535},
	}, o)
	assert.Equal(t, xsk.BindZeroCopy, o.BindFlags())
	assert.Equal(t, 4096, o.FrameSize())
}

func TestWrongFlagsGetOneLine(t *testing.T) {
	for line, part := range map[string]string{
		"":                      "no interface",
		"-d e extra":            `unexpected "extra"`,
		"-d e -q -1":            "-q -1",
		"-d e -q one":           "-q",
		"-d e -c -1":            "-c",
		"-d e -t -1":            "-t -1",
		"-d e -t NaN":           "-t NaN",
		"-d e -s 59":            "60 to 3840",
		"-d e -s 3841":          "60 to 3840",
		"-d e -n 0":             "1 to 2048",
		"-d e -n 2049":          "1 to 2048",
		"-d e -mode skb":        "none of auto, native and generic",
		"-d e -udp 0":           `"0" is no port`,
		"-d e -udp 65536":       `"65536" is no port`,
		"-d e -udp 9000,":       `"" is no port`,
		"-d e -z -mode generic": "-z needs",
		"-d e -nosuch":          "-nosuch",
	} {
		_, err := parse(t, line)
		require.ErrorContains(t, err, part, line)
		assert.NotContains(t, err.Error(), "\n", line)
	}
}

func TestGenericModeBindsInCopyMode(t *testing.T) {
	o, err := parse(t, "-d e -mode generic")
	require.NoError(t, err)
	assert.Equal(t, xsk.BindNeedWakeup|xsk.BindCopy, o.BindFlags())
}

func TestContextEndsWithTheTime(t *testing.T) {
	o := &Options{Time: time.Millisecond}
	ctx, stop := o.Context()
	defer stop()
	select {
	case <-ctx.Done():
		assert.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
	case <-time.After(10 * time.Second):
		t.Fatal("it did not end")
	}
}

func TestContextEndsWithASignal(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		ctx, stop := new(Options).Context()
		require.NoError(t, syscall.Kill(syscall.Getpid(), signal))
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
			t.Fatal(signal, "did not end it")
		}
		stop()
	}
}

func TestPassingErrors(t *testing.T) {
	assert.True(t, Passing(fmt.Errorf("kick: %w", syscall.EBUSY)))
	assert.True(t, Passing(syscall.ENETDOWN))
	assert.False(t, Passing(syscall.ENODEV))
	assert.False(t, Passing(errors.New("other")))
}

func TestMeterCountsFromFirstToLast(t *testing.T) {
	m := NewMeter("test")
	assert.Zero(t, m.Seconds())
	assert.Zero(t, m.Rate(m.Packets))
	m.Add(0, 0)
	m.Add(10, 640)
	assert.Zero(t, m.Rate(m.Packets), "one burst has no length")
	time.Sleep(10 * time.Millisecond)
	m.Add(10, 640)
	seconds := m.Seconds()
	assert.GreaterOrEqual(t, seconds, 0.01)
	time.Sleep(10 * time.Millisecond)
	m.Add(0, 0)
	assert.Equal(t, seconds, m.Seconds(), "waiting does not count")
	assert.Equal(t, uint64(20), m.Packets)
	assert.Equal(t, uint64(1280), m.Bytes)
	assert.InEpsilon(t, 20/seconds, m.Rate(m.Packets), 1e-9)
}

func TestExplainNamesTheCause(t *testing.T) {
	assert.Empty(t, Explain(xsk.Stats{TxRingEmpty: 9, RxInvalidDescs: 0}, 3840))
	lines := Explain(xsk.Stats{RxDropped: 7, RxFillRingEmpty: 5, RxRingFull: 3}, 3840)
	require.Len(t, lines, 3)
	assert.Contains(t, lines[0], "5 packets dropped: no empty frame")
	assert.Contains(t, lines[1], "3 packets dropped: the RX ring was full")
	assert.Contains(t, lines[2], "2 packets dropped: probably longer than the 3840")
	assert.Equal(t, uint64(10), KernelDrops(xsk.Stats{RxDropped: 7, RxFillRingEmpty: 5, RxRingFull: 3}))
}
