package split_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/internal/testns"
)

// What the Examples find: eth0, 192.0.2.1, leads to a kernel with 192.0.2.2.
var beyond *testns.Peer

func plug() (err error) {
	beyond, err = testns.NewPeer("eth0", "192.0.2.1/24", "192.0.2.2/24")
	return err
}

// ask sends a word from a kernel socket beyond eth0, each second until there is an
// answer.
func ask(address, word string) string {
	conn, err := beyond.Dial(address)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	for b := make([]byte, 2000); ; {
		_, _ = conn.Write([]byte(word))
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := conn.Read(b)
		if err == nil {
			return string(b[:n])
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err.Error()
		}
	}
}

// Each program on docs/listeners.md is one of the Examples, which are run.
func TestTheProgramsOfTheListenersPageAreRun(t *testing.T) {
	page, err := os.ReadFile("../docs/listeners.md")
	require.NoError(t, err)
	examples, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	programs := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	assert.GreaterOrEqual(t, len(programs), 4)
	for _, program := range programs {
		for _, function := range strings.Split(program[1], "\n\n//") {
			assert.Contains(t, string(examples), strings.TrimSpace(function))
		}
	}
	links := regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(string(page), -1)
	for _, link := range links {
		_, err := os.Stat(filepath.Join("../docs", link[1]))
		assert.NoError(t, err)
	}
}
