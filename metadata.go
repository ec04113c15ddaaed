package xsk

import (
	"encoding/binary"
)

// An RxMetadata is what the device knew of a received packet. The program that
// bpf.Attach attaches with bpf.Options.Metadata writes it before the packet, in
// native mode; another program can write what it likes there, see
// [Frame.Metadata].
//
// Each field is there or not, packet by packet: the driver must know the function,
// and the device the value. Only veth among the common virtual devices has all.
type RxMetadata struct {
	HasTimestamp bool
	HasHash      bool
	HasVLAN      bool

	Timestamp uint64 // when it arrived, in ns of the device's clock (bpf_xdp_metadata_rx_timestamp)
	Hash      uint32 // over its addresses, as for RSS (bpf_xdp_metadata_rx_hash)
	HashType  uint32 // which of them, in bits of XDP_RSS_*; 0 tells nothing
	VLANProto uint16 // of a tag that the device took out: 0x8100 or 0x88a8 (bpf_xdp_metadata_rx_vlan_tag)
	VLANTCI   uint16 // priority in 3 bits, drop eligible in 1, and the VLAN in 12
}

// rxMetadataSize is the size of struct metadata in bpf/metadata.bpf.c, and
// rxMetadataMark what its last word begins with: other bytes before a packet are
// not that program's.
const (
	rxMetadataSize = 24
	rxMetadataMark = 0x78736b00

	hasTimestamp = 1 << 0
	hasHash      = 1 << 1
	hasVLAN      = 1 << 2
)

func parseRxMetadata(b []byte) (m RxMetadata, ok bool) {
	if len(b) != rxMetadataSize {
		return m, false
	}
	fields := binary.NativeEndian.Uint32(b[20:])
	if fields&^0xff != rxMetadataMark {
		return m, false
	}
	m.HasTimestamp, m.HasHash, m.HasVLAN = fields&hasTimestamp != 0, fields&hasHash != 0, fields&hasVLAN != 0
	m.Timestamp = binary.NativeEndian.Uint64(b)
	m.Hash = binary.NativeEndian.Uint32(b[8:])
	m.HashType = binary.NativeEndian.Uint32(b[12:])
	m.VLANTCI = binary.NativeEndian.Uint16(b[16:])
	m.VLANProto = binary.BigEndian.Uint16(b[18:])
	return m, true
}

// Metadata returns the n bytes right before the packet that d names, nil if its
// frame has not as many there, and after Close. A program puts metadata of its own
// there with bpf_xdp_adjust_meta, in native and in generic mode. Nothing tells how
// much it wrote, if any: program and reader agree on that. The bytes belong to
// whoever owns the frame. In unaligned mode the frame begins where the address
// without its offset says; without an offset that is not known, nor checked.
func (u *Umem) Metadata(d Desc, n int) []byte {
	start, first := uint64(d.Addr.Data()), uint64(d.Addr.Base())
	switch {
	case u.mask != 0:
		first = start &^ u.mask
	case first == start:
		first = 0
	}
	if start > uint64(len(u.area)) || n < 0 || uint64(n) > start-first {
		return nil
	}
	return u.area[start-uint64(n) : start : start]
}

// RxMetadata returns what bpf.Options.Metadata put before the packet that d names,
// as it came from the RX ring. It reports false if that program did not: another
// one is attached.
func (u *Umem) RxMetadata(d Desc) (m RxMetadata, ok bool) {
	return parseRxMetadata(u.Metadata(d, rxMetadataSize))
}

// Metadata returns the n bytes right before Data, nil if the frame has not as many
// there; see [Umem.Metadata]. In a received frame that is where a program puts
// metadata, so look before Data is made to begin elsewhere, and before Prepend or a
// request for sending overwrites it.
func (f *Frame) Metadata(n int) []byte {
	if f.pool == nil || f.pool.area == nil || n < 0 {
		return nil
	}
	start, first := f.offset(), int64(f.index)*int64(f.pool.frameSize)
	if start < first || start > first+int64(f.pool.frameSize) || int64(n) > start-first {
		return nil
	}
	return f.pool.area[start-int64(n) : start : start]
}

// RxMetadata returns what bpf.Options.Metadata put before a received packet; see
// [Umem.RxMetadata], and Metadata for when to look.
func (f *Frame) RxMetadata() (m RxMetadata, ok bool) {
	return parseRxMetadata(f.Metadata(rxMetadataSize))
}
