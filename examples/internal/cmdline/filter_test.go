package cmdline

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFilterFlags(t *testing.T) {
	for line, want := range map[string]string{
		"":                      "UDP port 9000",
		"-udp 53,4000-4010":     "UDP ports 53, 4000-4010",
		"-keep":                 "UDP port 9000, but not management",
		"-tcp 80":               "TCP port 80",
		"-udp 53 -tcp 80":       "UDP port 53 or TCP port 80",
		"-all -keep-ports 8443": "all packets, but not management with port 8443",
		"-tcp-src 179 -udp-src 123 -ping -protocol 47,0x84 -vlan 42":                           "UDP source port 123 or TCP source port 179 or ping or protocols 47, 132 or VLAN 42",
		"-src 192.0.2.0/24,2001:db8::1 -dst 10.0.0.1 -ethertype 0x88f7 -mac 02:00:00:00:00:01": "sources 192.0.2.0/24, 2001:db8::1/128 or destination 10.0.0.1/32 or EtherType 0x88f7 or MAC 02:00:00:00:00:01",
	} {
		o, err := parse(t, "-d e "+line)
		require.NoError(t, err, line)
		assert.Equal(t, want, o.Filter().String(), line)
	}
}

func TestExceptTakesFlags(t *testing.T) {
	s := New("test", "tests", 64)
	require.NoError(t, s.parse([]string{"-d", "e", "-all", "-except", "-tcp 22,443 -udp 53 -ping"}))
	assert.Equal(t, "all packets, but not UDP port 53 or TCP ports 22, 443 or ping", s.options.Filter().String())
	for _, text := range []string{"", "22", "-all", "-tcp 22 443"} {
		require.Error(t, New("test", "tests", 64).parse([]string{"-d", "e", "-except", text}), text)
	}
}

func TestFlagsAgainAddUp(t *testing.T) {
	s := New("test", "tests", 64)
	require.NoError(t, s.parse([]string{"-d", "e", "-udp", "53", "-udp", "54-55", "-tcp", "80", "-tcp", "443", "-src", "10.0.0.1", "-src", "10.0.0.2",
		"-except", "-tcp 22", "-except", "-ping -tcp 23", "-keep-ports", "8443", "-keep-ports", "9443"}))
	assert.Equal(t, "UDP ports 53-55 or TCP ports 80, 443 or sources 10.0.0.1/32, 10.0.0.2/32, but not TCP ports 22-23 or ping or management with ports 8443, 9443",
		s.options.Filter().String())
	_, err := parse(t, "-d e -vlan 5 -vlan 6")
	require.ErrorContains(t, err, "a filter takes one VLAN id, and has 5")
}

func TestDefaultAll(t *testing.T) {
	for line, want := range map[string]string{"": "all packets", "-udp 53": "UDP port 53", "-ping": "ping", "-keep": "all packets, but not management"} {
		s := New("test", "tests", 64)
		s.DefaultAll()
		require.NoError(t, s.parse(append([]string{"-d", "e"}, strings.Fields(line)...)))
		assert.Equal(t, want, s.options.Filter().String(), line)
	}
}

func TestWrongFilterFlags(t *testing.T) {
	for line, part := range map[string]string{
		"-tcp 10-9":        `"10-9" is no port`,
		"-tcp 1-65536":     `"1-65536" is no port`,
		"-keep-ports none": `"none" is no port`,
		"-protocol 256":    `"256" is no IP protocol`,
		"-src 10.0.0":      `"10.0.0" is no address or prefix`,
		"-ethertype IP":    `"IP" is no EtherType`,
		"-mac 2:0":         `"2:0" is no MAC address`,
		"-vlan 4095":       `"4095" is no VLAN id`,
	} {
		_, err := parse(t, "-d e "+line)
		require.ErrorContains(t, err, part, line)
	}
}
