package bpf_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// Neither Attach nor Open changes a limit or a setting of the interface.
func TestSettingsStayAsTheyAre(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Generic, bpf.Native} {
		t.Run(mode.String(), func(t *testing.T) {
			a, _ := testns.Veth{Queues: 2}.Make(t)
			before := settings(t, a)
			p, err := bpf.Attach(a, bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
			require.NoError(t, err)
			defer p.Close()
			queues, err := xsk.OpenAll(a, &xsk.Config{XSKMap: p})
			require.NoError(t, err)
			open := settings(t, a)
			for _, q := range queues {
				require.NoError(t, q.Close())
			}
			assert.Equal(t, before, open, "while queues are open")
			require.NoError(t, p.Close())
			assert.Equal(t, before, settings(t, a), "afterwards")
		})
	}
}

// settings are those of the interface, but for its program, with the limits of
// this process.
func settings(t *testing.T, ifname string) map[string]string {
	t.Helper()
	all := map[string]string{}
	files, err := filepath.Glob("/sys/class/net/" + ifname + "/*")
	require.NoError(t, err)
	for _, name := range files {
		if text, err := os.ReadFile(name); err == nil {
			all[filepath.Base(name)] = string(text)
		}
	}
	for _, words := range [][]string{
		{"ip", "-details", "link", "show", "dev", ifname},
		{"ethtool", "--show-features", ifname}, {"ethtool", "--show-channels", ifname}, {"ethtool", "--show-ring", ifname},
	} {
		text, _ := exec.Command(words[0], words[1:]...).Output() // not every driver has all
		said := regexp.MustCompile(`xdp(generic|drv|offload)?(/id:\d+)? |prog/xdp.*`).ReplaceAllString(string(text), "")
		all[words[0]+words[1]] = strings.Join(strings.Fields(said), " ")
	}
	require.NotEmpty(t, all["ethtool--show-features"])
	for resource := unix.RLIMIT_CPU; resource <= 15; resource++ {
		var limit unix.Rlimit
		require.NoError(t, unix.Getrlimit(resource, &limit))
		all[fmt.Sprint("limit ", resource)] = fmt.Sprint(limit)
	}
	return all
}
