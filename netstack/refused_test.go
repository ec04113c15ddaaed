package netstack_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// refusedFamily and refusedInterface, in the environment, make the test below a process
// whose sockets of that family are refused.
const (
	refusedFamily    = "XSK_NETSTACK_TEST_REFUSED"
	refusedInterface = "XSK_NETSTACK_TEST_INTERFACE"
)

// Sockets that seccomp refuses, as RestrictAddressFamilies= of a systemd unit has it do,
// are named with the setting.
func TestOpenNamesRefusedSockets(t *testing.T) {
	if family, err := strconv.Atoi(os.Getenv(refusedFamily)); err == nil {
		require.NoError(t, testns.RefuseSockets(family, unix.EAFNOSUPPORT))
		_, err := netstack.Open(soon(t), os.Getenv(refusedInterface), &netstack.Config{Addresses: prefixes(ours4)})
		fmt.Println(err)
		return
	}
	testns.Kernel(t)
	p := testns.MakePeer(t)
	for family, name := range map[int]string{unix.AF_PACKET: "AF_PACKET", unix.AF_NETLINK: "AF_NETLINK"} {
		half := exec.Command("/proc/self/exe", "-test.run=^TestOpenNamesRefusedSockets$")
		half.Env = append(os.Environ(), fmt.Sprintf("%s=%d", refusedFamily, family), refusedInterface+"="+p.Near)
		output, err := half.CombinedOutput()
		require.NoError(t, err, "%s", output)
		assert.Contains(t, string(output), "netstack: open "+p.Near+": ")
		assert.Contains(t, string(output), "address family not supported by protocol: something refuses this process "+name+" sockets")
		assert.Contains(t, string(output), "RestrictAddressFamilies= must name "+name)
	}
}
