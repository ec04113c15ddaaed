package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/go-xsk/xsk"
)

// A sink takes captured packets.
type sink interface {
	begin(queues xsk.Queues) error
	// packet takes the first bytes of a packet of length bytes, which came on the
	// queue with this index. It may not keep data.
	packet(queue int, at time.Time, data []byte, length int) error
	// flush comes after each burst.
	flush() error
	// counts come once for each queue, at the end.
	counts(queue int, since time.Time, received, dropped uint64) error
	close() error
}

// openSink creates the file, or prints to out.
func (c *config) openSink(out io.Writer) (sink, error) {
	switch c.file {
	case "":
		return &lines{bufio.NewWriter(out)}, nil
	case "-":
		return &pcapng{config: c, file: out}, nil
	}
	file, err := os.Create(c.file)
	if err != nil {
		return nil, err
	}
	return &pcapng{config: c, file: file}, nil
}

// A pcapng is a file with an interface description for each queue.
type pcapng struct {
	config *config
	file   io.Writer
	writer *pcapgo.NgWriter
}

func (p *pcapng) begin(queues xsk.Queues) (err error) {
	options := pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "xskdump",
	}}
	for i, q := range queues {
		description := pcapgo.NgInterface{
			Name: p.config.Interface, Description: q.String(), Filter: p.config.expression,
			LinkType: layers.LinkTypeEthernet, SnapLength: uint32(p.config.Size),
		}
		if i == 0 {
			buffered := bufio.NewWriterSize(p.file, 1<<20)
			p.writer, err = pcapgo.NewNgWriterInterface(buffered, description, options)
		} else {
			_, err = p.writer.AddInterface(description)
		}
		if err != nil {
			return err
		}
	}
	return p.writer.Flush() // a reader that waits sees that it has begun
}

func (p *pcapng) packet(queue int, at time.Time, data []byte, length int) error {
	return p.writer.WritePacket(gopacket.CaptureInfo{
		Timestamp: at, CaptureLength: len(data), Length: length, InterfaceIndex: queue,
	}, data)
}

// flush is for a reader at the other end of a pipe; a file can wait.
func (p *pcapng) flush() error {
	if p.config.file == "-" {
		return p.writer.Flush()
	}
	return nil
}

func (p *pcapng) counts(queue int, since time.Time, received, dropped uint64) error {
	now := time.Now()
	return p.writer.WriteInterfaceStats(queue, pcapgo.NgInterfaceStatistics{
		LastUpdate: now, StartTime: since, EndTime: now, PacketsReceived: received, PacketsDropped: dropped,
	})
}

func (p *pcapng) close() (err error) {
	if p.writer != nil {
		err = p.writer.Flush()
	}
	if file, is := p.file.(*os.File); is && file != os.Stdout {
		err = errors.Join(err, file.Close())
	}
	return err
}

// lines prints a line a packet.
type lines struct{ out *bufio.Writer }

func (l *lines) begin(xsk.Queues) error { return nil }

func (l *lines) packet(queue int, at time.Time, data []byte, length int) error {
	_, err := fmt.Fprintf(l.out, "%s q%d %s, %d bytes\n", at.Format("15:04:05.000000"), queue, describe(data), length)
	return err
}

func (l *lines) flush() error { return l.out.Flush() }

func (l *lines) counts(int, time.Time, uint64, uint64) error { return nil }

func (l *lines) close() error { return l.out.Flush() }

// describe says who sends what to whom: the innermost addresses, and the name of
// each layer.
func describe(data []byte) string {
	packet := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	var from, to string
	var names []string
	for _, layer := range packet.Layers() {
		switch l := layer.(type) {
		case *layers.Ethernet:
			from, to = l.SrcMAC.String(), l.DstMAC.String()
			continue
		case *layers.Dot1Q:
			names = append(names, fmt.Sprint("VLAN ", l.VLANIdentifier))
			continue
		case gopacket.NetworkLayer:
			if src, dst := l.NetworkFlow().Endpoints(); len(src.Raw()) > 0 { // not cut off
				from, to = src.String(), dst.String()
			}
		case gopacket.TransportLayer:
			if src, dst := l.TransportFlow().Endpoints(); len(src.Raw()) > 0 {
				from, to = from+" port "+src.String(), to+" port "+dst.String()
			}
		case *gopacket.Payload, *gopacket.DecodeFailure:
			continue
		}
		names = append(names, layer.LayerType().String())
	}
	text := strings.Join(names, " ")
	if packet.ErrorLayer() != nil {
		text += " (cut short or damaged)"
	}
	return from + " > " + to + ": " + text
}
