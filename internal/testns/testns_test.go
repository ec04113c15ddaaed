package testns

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

func TestVethMakesAPairInAnEmptyNetwork(t *testing.T) {
	a, b := Veth{Queues: 2, MTU: 2000}.Make(t)
	all, err := net.Interfaces()
	require.NoError(t, err)
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
		if i.Name == a || i.Name == b {
			assert.Equal(t, 2000, i.MTU)
			assert.NotZero(t, i.Flags&net.FlagUp)
		}
	}
	assert.ElementsMatch(t, []string{"lo", a, b}, names)
	assert.DirExists(t, "/sys/class/net/"+a+"/queues/rx-1", "/sys shows this namespace")
	stat, err := os.Stat("/sys/fs/bpf")
	require.NoError(t, err)
	assert.True(t, stat.IsDir())
}

func TestPeerIsASecondNetworkAtTheFarEnd(t *testing.T) {
	p := MakePeer(t)
	here, err := net.ListenPacket("udp", "192.0.2.1:7")
	require.NoError(t, err)
	defer here.Close()
	there, err := p.Dial("192.0.2.1:7")
	require.NoError(t, err)
	defer there.Close()
	_, err = there.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, here.SetDeadline(time.Now().Add(5*time.Second)))
	buf := make([]byte, 9)
	n, from, err := here.ReadFrom(buf)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(buf[:n]))
	assert.Equal(t, there.LocalAddr().String(), from.String())
	require.NoError(t, p.Do(func() error {
		_, err := net.InterfaceByName(p.Near)
		assert.Error(t, err)
		return nil
	}))
}
