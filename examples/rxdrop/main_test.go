package main

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) { testns.Main(m) }

// examples builds the programs and returns where they are.
func examples(t *testing.T, names ...string) string {
	t.Helper()
	testns.Kernel(t)
	dir := t.TempDir()
	for _, name := range names {
		out, err := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, name), "../"+name).CombinedOutput()
		require.NoError(t, err, "build %s: %s", name, out)
	}
	return dir
}

// A process is an example that runs; ready is closed when it prints "ready".
type process struct {
	*exec.Cmd
	ready chan struct{}
	done  chan struct{}
	last  string // line of output, once done is closed
}

func start(t *testing.T, path string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(path, args...), ready: make(chan struct{}), done: make(chan struct{})}
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r, w := io.Pipe()
	p.Stdout, p.Stderr = w, w
	require.NoError(t, p.Start())
	go func() {
		_ = p.Wait()
		_ = w.Close()
	}()
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			p.last = lines.Text()
			t.Log(p.last)
			if strings.Contains(p.last, ": ready") {
				close(p.ready)
			}
		}
	}()
	t.Cleanup(func() { _ = p.Process.Kill(); <-p.done })
	return p
}

func await(t *testing.T, what string, c chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(30 * time.Second):
		t.Fatal("waited in vain: ", what)
	}
}

// value is N in "name=N" of the last line.
func (p *process) value(t *testing.T, name string) int {
	t.Helper()
	m := regexp.MustCompile(`\b` + name + `=(\d+)`).FindStringSubmatch(p.last)
	require.NotNil(t, m, "no %s in %q", name, p.last)
	n, err := strconv.Atoi(m[1])
	require.NoError(t, err)
	return n
}

func TestWindowLosesNothing(t *testing.T) {
	dir := examples(t, "rxdrop", "udpgen")
	for _, mode := range []string{"generic", "native"} {
		for _, size := range []int{60, 1514, 3000} {
			t.Run(fmt.Sprint(mode, size), func(t *testing.T) {
				a, b := testns.Veth{MTU: max(1500, size-14)}.Make(t)
				receiver := start(t, dir+"/rxdrop", "-d", b, "-mode", mode, "-verify", "-ack")
				await(t, "rxdrop to be ready", receiver.ready)
				sender := start(t, dir+"/udpgen", "-d", a, "-mode", mode, "-s", strconv.Itoa(size), "-window", "256", "-t", "0.5")
				await(t, "the end of udpgen", sender.done)
				require.NoError(t, receiver.Process.Signal(syscall.SIGINT))
				await(t, "the end of rxdrop", receiver.done)

				assert.Zero(t, receiver.ProcessState.ExitCode())
				assert.Zero(t, sender.ProcessState.ExitCode())
				assert.NotZero(t, sender.value(t, "sent"))
				assert.Equal(t, sender.value(t, "sent"), receiver.value(t, "received"))
				assert.Equal(t, size*sender.value(t, "sent"), receiver.value(t, "bytes"))
				assert.Zero(t, sender.value(t, "dropped"))
				assert.Zero(t, receiver.value(t, "lost"))
				assert.Zero(t, receiver.value(t, "corrupt"))
			})
		}
	}
}

func TestKilledRxdropLeavesNoProgramBehind(t *testing.T) {
	dir := examples(t, "rxdrop")
	for _, mode := range []string{"generic", "native"} {
		_, b := testns.Veth{}.Make(t)
		attached := func() bool {
			out, err := exec.Command("ip", "-d", "link", "show", b).CombinedOutput()
			require.NoError(t, err)
			return strings.Contains(string(out), "prog/xdp")
		}
		p := start(t, dir+"/rxdrop", "-d", b, "-mode", mode)
		await(t, "rxdrop to be ready", p.ready)
		require.True(t, attached(), mode)
		require.NoError(t, p.Process.Kill())
		await(t, "the end of rxdrop", p.done)
		assert.Eventually(t, func() bool { return !attached() }, 10*time.Second, 10*time.Millisecond, mode)
	}
}

// Nobody acknowledges: udpgen has to end all the same.
func TestWindowEndsWithoutReceiver(t *testing.T) {
	dir := examples(t, "udpgen")
	a, _ := testns.Veth{}.Make(t)
	p := start(t, dir+"/udpgen", "-d", a, "-window", "64", "-c", "64")
	await(t, "the end of udpgen", p.done)
	assert.Zero(t, p.ProcessState.ExitCode())
	assert.Equal(t, 64, p.value(t, "sent"))
}
