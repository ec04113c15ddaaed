package xsk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/go-xsk/xsk/internal/closed"
	"github.com/go-xsk/xsk/internal/kernel"
)

// A TxRequest is what the device is asked to do with one packet, or the kernel in
// its place (struct xsk_tx_metadata). It takes a Umem with
// [UmemConfig.TxMetadataLen]: [Umem.SetTxMetadata] writes it before the packet of a
// Desc, and [Frame.Request] notes it for Queue.Send.
//
// In copy mode the kernel computes checksums if the Umem has [UmemTxSWCsum], or
// else leaves that to the device, and ignores the launch time. In zero copy a
// driver does what it and the device can, and ignores the rest.
type TxRequest struct {
	// Fill in the Internet checksum of the bytes from ChecksumStart to the end of
	// the packet (XDP_TXMD_FLAGS_CHECKSUM). Where it goes must hold the sum of the
	// pseudo header, not inverted, as for every checksum offload.
	Checksum       bool
	ChecksumStart  uint16 // counted from the packet's first byte (csum_start)
	ChecksumOffset uint16 // of where it goes, counted from ChecksumStart (csum_offset)

	// Tell when the packet was sent (XDP_TXMD_FLAGS_TIMESTAMP): Umem.TxTimestamp
	// and Queue.TxTimestamps, which gives ID back with it.
	Timestamp bool
	ID        uint64

	// Send no earlier than this, in ns of the device's clock; 0: at once. It needs
	// a TxMetadataLen of 24 and Linux 6.15 (XDP_TXMD_FLAGS_LAUNCH_TIME).
	LaunchTime uint64
}

// The layout of struct xsk_tx_metadata: 64 bits of flags; then csum_start and
// csum_offset, and launch_time, which the kernel overwrites with tx_timestamp at
// the first.
const (
	txmdTimestamp  = 1 << 0
	txmdChecksum   = 1 << 1
	txmdLaunchTime = 1 << 2

	leastTxMetadata = 16
	mostTxMetadata  = 248
	launchTimeEnd   = 24
)

// hasLaunchTime is for a flag that a kernel before it refuses.
func hasLaunchTime() bool { return kernel.AtLeast("6.15 launch time") }

func (c *UmemConfig) completeTxMetadata() error {
	switch n := c.TxMetadataLen; {
	case n == 0 && c.Flags&UmemTxMetadataLen != 0:
		return invalid("UmemTxMetadataLen goes with a TxMetadataLen, and that is 0")
	case n != 0 && (n < leastTxMetadata || n > mostTxMetadata || n%8 != 0):
		return invalid("TxMetadataLen %d is not 0 or a multiple of 8 from %d to %d", n, leastTxMetadata, mostTxMetadata)
	case n != 0:
		c.Flags |= UmemTxMetadataLen
	}
	return nil
}

// unsupportedTxMetadata says what the system lacks if that is why a Umem with TX
// metadata was refused.
func unsupportedTxMetadata(err error) error {
	switch {
	case err == syscall.ENOSYS:
		return fmt.Errorf("TxMetadataLen needs libxdp 1.5.0 or newer (xsk_umem__create_opts): %w", errors.ErrUnsupported)
	case err == syscall.EINVAL && !kernel.AtLeast("6.11 XDP_UMEM_TX_METADATA_LEN"):
		return fmt.Errorf("TxMetadataLen needs Linux 6.11 or newer: %w", errors.ErrUnsupported)
	}
	return nil
}

// SetTxMetadata writes r before the packet that d names, the first Desc of it, and
// sets TxMetadata in its Options: the last thing to do before d is queued. It
// overwrites the TxMetadataLen bytes there, RX metadata too. The frame must be the
// caller's.
//
// Whatever the kernel would refuse is an error that wraps EINVAL and says why, and
// leaves d alone: a Umem without TxMetadataLen, a packet outside of the Umem or one
// that begins too early in its frame, a checksum outside of the packet. A launch time on a kernel before 6.15
// wraps errors.ErrUnsupported.
func (u *Umem) SetTxMetadata(d *Desc, r TxRequest) error {
	if err := u.setTxMetadata(d, r); err != nil {
		return failed(fmt.Sprintf("set metadata of packet %#x", uint64(d.Addr)), err)
	}
	return nil
}

func (u *Umem) setTxMetadata(d *Desc, r TxRequest) error {
	if err := r.check(u.txMeta, d.Len); err != nil {
		return err
	}
	m := u.Metadata(*d, int(u.txMeta))
	if m == nil {
		if u.area == nil {
			return closed.Err
		}
		return u.noRoom(d)
	}
	r.put(m)
	d.Options |= TxMetadata
	return nil
}

// check refuses what no packet of that length can be asked.
func (r *TxRequest) check(size uint64, packet uint32) error {
	switch {
	case size == 0:
		return invalid("the Umem was made without UmemConfig.TxMetadataLen")
	case r.Checksum && uint32(r.ChecksumStart)+uint32(r.ChecksumOffset)+2 > packet:
		return invalid("ChecksumStart %d and ChecksumOffset %d put the checksum outside of a packet of %d bytes",
			r.ChecksumStart, r.ChecksumOffset, packet)
	case r.LaunchTime != 0 && size < launchTimeEnd:
		return invalid("LaunchTime needs a TxMetadataLen of %d, and it is %d", launchTimeEnd, size)
	case r.LaunchTime != 0 && !hasLaunchTime():
		return fmt.Errorf("LaunchTime needs Linux 6.15 or newer: %w", errors.ErrUnsupported)
	}
	return nil
}

// put writes the struct to the start of m.
func (r *TxRequest) put(m []byte) {
	var flags uint64
	if r.Timestamp {
		flags |= txmdTimestamp
	}
	if r.Checksum {
		flags |= txmdChecksum
	}
	if r.LaunchTime != 0 {
		flags |= txmdLaunchTime
		binary.NativeEndian.PutUint64(m[16:], r.LaunchTime)
	}
	binary.NativeEndian.PutUint64(m, flags)
	binary.NativeEndian.PutUint64(m[8:], 0)
	if r.Checksum {
		binary.NativeEndian.PutUint16(m[8:], r.ChecksumStart)
		binary.NativeEndian.PutUint16(m[10:], r.ChecksumOffset)
	}
}

// TxTimestamp is when the packet at a was sent, in ns: of CLOCK_TAI in copy mode,
// of the device's clock in zero copy. a is the address as it was queued: the
// completion ring's may lack its lowest bit (see [CompletionRing.Consume]). Call it
// when a has come back there and before the frame is used again. It is 0 unless a
// TxRequest asked for it, if the device tells no time, and after Close.
func (u *Umem) TxTimestamp(a Addr) uint64 {
	if u.txMeta == 0 {
		return 0
	}
	return txTimestamp(u.Metadata(Desc{Addr: a}, int(u.txMeta)))
}

// txTimestamp reads what the kernel left in a struct. What it did not write there
// is the place of the checksum, which is no time of this century.
func txTimestamp(m []byte) uint64 {
	if len(m) < leastTxMetadata || binary.NativeEndian.Uint64(m)&txmdTimestamp == 0 {
		return 0
	}
	if t := binary.NativeEndian.Uint64(m[8:]); t > 1<<32 {
		return t
	}
	return 0
}

// noRoom says why metadata has no place before a packet: it is not in the Umem, or
// begins too close to the start of its frame, and then the kernel refuses it even
// without metadata.
func (u *Umem) noRoom(d *Desc) error {
	if start := uint64(d.Addr.Data()); start >= uint64(len(u.area)) {
		return invalid("it lies outside of the Umem, which has %d bytes", len(u.area))
	}
	return invalid("it begins less than the %d bytes of TxMetadataLen into its frame", u.txMeta)
}

// acceptable returns the descriptors up to the first with metadata that the kernel
// would refuse, and why. It looks only at what makes the kernel stop: the packet
// would stay at the head of the TX ring for ever.
func (u *Umem) acceptable(descs []Desc) ([]Desc, error) {
	for i := range descs {
		d := &descs[i]
		if d.Options&TxMetadata == 0 {
			continue
		}
		if err := u.checkTxMetadata(d); err != nil {
			return descs[:i], fmt.Errorf("packet %#x: %w", uint64(d.Addr), err)
		}
	}
	return descs, nil
}

func (u *Umem) checkTxMetadata(d *Desc) error {
	m := u.Metadata(*d, int(u.txMeta))
	if m == nil {
		return u.noRoom(d)
	}
	flags := binary.NativeEndian.Uint64(m)
	if unknown := flags &^ (txmdTimestamp | txmdChecksum | txmdLaunchTime); unknown != 0 {
		return invalid("its metadata has unknown flags %#x", unknown)
	}
	var r TxRequest
	if r.Checksum = flags&txmdChecksum != 0; r.Checksum {
		r.ChecksumStart, r.ChecksumOffset = binary.NativeEndian.Uint16(m[8:]), binary.NativeEndian.Uint16(m[10:])
	}
	if flags&txmdLaunchTime != 0 {
		r.LaunchTime = 1
	}
	return r.check(u.txMeta, d.Len)
}

// txBurstChecked is TxBurst on a Umem with TX metadata.
func (s *Socket) txBurstChecked(tx []Desc, done []Addr) (queued, completed int, err error) {
	var refused error
	if s.Tx.gate.enter() { // so the memory stays
		tx, refused = s.Tx.checked.acceptable(tx)
		s.Tx.gate.leave()
	}
	b := s.transmit(tx, done)
	if b.err == nil && b.in == len(tx) && refused != nil {
		return b.in, b.out, s.fail("queue", refused)
	}
	return b.in, b.out, s.burstError("kick", b.err)
}
