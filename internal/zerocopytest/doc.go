// Package zerocopytest proves zero copy, on two NICs that are cabled together.
//
// XSK_ZEROCOPY names them, and without it there is no test here. scripts/ci/vm-test
// runs the tests in a guest that has two virtio NICs; with ports of a real NIC,
//
//	XSK_ZEROCOPY=eth0,eth1 go test -v ./internal/zerocopytest
//
// tells whether this library and that driver get along. The NICs carry what the
// tests send and nothing else, and need one queue: ethtool -L eth0 combined 1. No
// test skips: a NIC that grants no zero copy fails them all.
package zerocopytest
